import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aot import STAGES
from aot.errors import install_command, missing_package

ROOT = Path(__file__).parents[1]
VERBS = set(STAGES) | {"run", "jobs", "status", "baselines", "score", "compare", "doctor", "probe", "frames", "ask"}
VERBS |= {"calibrate", "faithfulness", "export", "predict", "serve", "prefetch", "data", "plan", "init", "schema"}
VERBS |= {"watch", "audit", "retrain-advice", "publish", "review"}


def aot(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "aot", *arguments], capture_output=True, text=True, cwd=cwd, check=False, env=environment
    )


def test_the_table_of_verbs_is_frozen() -> None:
    lines = aot("--help").stdout.split("Commands:")[1].splitlines()
    assert {line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "} == VERBS


def test_version_short_help_and_completion_are_there() -> None:
    assert aot("--version").stdout == "aot-distill 0.1.0\n"
    assert "-h, --help" in aot("-h").stdout and "-h, --help" in aot("data", "export", "-h").stdout
    environment = {**os.environ, "_AOT_COMPLETE": "complete_bash", "COMP_WORDS": "aot pre", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-m", "aot"], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["prepare", "predict", "prefetch"]


def test_json_of_a_run_is_that_of_its_dry_run() -> None:
    done = aot("run", "configs/text/tiny_math_tiny.yaml", "--json")
    assert done.returncode == 2 and "--json is for --dry-run" in done.stderr


HEAVY = ("torch", "transformers", "peft", "datasets", "cv2", "av", "decord", "numpy", "PIL", "pyarrow", "yaml", "rich")
IMPORTED = """
import sys
before = set(sys.modules)
import aot
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))
from aot.__main__ import main
try:
    main()
finally:
    print(*sorted(name for name in sys.modules if "." not in name), file=sys.stderr)
"""


def test_a_bare_import_loads_the_standard_library_alone_and_help_nothing_heavy() -> None:
    command = [sys.executable, "-c", IMPORTED, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[0] == "aot" and "retrain-advice" in done.stdout
    assert set(HEAVY).isdisjoint(done.stderr.split()), done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml"),
        (("run", "configs/video/toy_kitchen.yaml", "train.max_step=3"), "did you mean train.max_steps?"),
        (("run", "configs/video/toy_kitchen.yaml", "rubbish"), "key.sub=value"),
        (
            ("run", "configs/video/toy_kitchen.yaml", "prepare", "train"),
            "in this order, without gaps: prepare, generate",
        ),
        (("run", "configs/video/toy_kitchen.yaml", "train.nodes=2"), "give run.rendezvous=HOST:PORT of the first one"),
        (("run", "configs/video/toy_kitchen.yaml", "--limit", "0"), "limit"),
        (("status", "tests"), "run folder"),
        (("probe", "README.md"), "README.md"),
        (("probe", "http://localhost/clip.mp4"), "localhost"),
        (("ask", "nowhere.mp4", "What is the next step?"), "aot: nowhere.mp4: missing: there is no file"),
        (("ask", "nowhere.mp4", " "), "the question is empty"),
        (
            ("ask", "nowhere.mp4", "What?", "--config", "configs/text/tiny_math_tiny.yaml"),
            "is about clips, and data.dataset",
        ),
        (("ask", "nowhere.mp4", "x" * 20_001), "the question has 20001 characters"),
        (("frames", "nowhere.mp4", "out"), "aot: nowhere.mp4: missing: there is no file"),
        (("frames", "text.mp4", "out"), "text.mp4: not_a_video"),
        (("frames", "empty.mp4", "out"), "empty.mp4: empty"),
        (("frames", "list.mp4", "out"), "list.mp4: playlist"),
        (("frames", ".", "out"), "not_a_local_file"),
        (("frames", "nowhere.mp4", "out", "--at", "0.5"), "nowhere.mp4: missing"),
        (("frames", "nowhere.mp4", "out", "--at", "nan"), "--at nan"),
        (("run", "run.yaml", "--dry-run"), "set data.root"),
        (("run", "run.yaml"), "set data.root"),
        (("train", "run.yaml", "data.dataset=toy_kitchen"), "prepare, generate, filter"),
        (("run", "configs/video/toy_kitchen.yaml", "--max-cost", "20"), "this run asks no chat model"),
        (("run", "configs/video/toy_kitchen.yaml", "--limit", "2", "data.limit=3"), "data.limit is given twice"),
        (("predict", "out"), "either a QUESTION, or --in"),
        (("predict", "out", "What?", "--out", "a.jsonl"), "--in, --out and --root belong together"),
        (("predict", "out", "--in", "p.json", "--out", "a.jsonl", "--choice", "x"), "rows of a file name their own"),
        (("predict", "out", "--in", "p.json", "--out", "p.json"), "p.json holds the questions"),
        (("predict", "nowhere", "What?"), "nowhere holds no exported student; make one with aot export"),
        (("score", "p.json"), "either --config CONFIG or --questions FILE"),
        (("score", "p.json", "--questions", "nowhere.jsonl"), "no file nowhere.jsonl"),
        (("score", "p.json", "seed=1", "--questions", "p.json"), "seed=1 changes a setting of --config"),
        (("score", "nowhere.json", "--config", "configs/video/nextqa.yaml"), "val.csv; set data.annotated.test"),
        (("train", "configs/text/tiny_math_tiny.yaml", "--job", "pre:teach"), "did you mean pre:train?"),
        (("train", "configs/text/tiny_math_tiny.yaml", "--job", "pre:train"), "prepare, generate, filter are done"),
        (("train", "configs/text/tiny_math_tiny.yaml", "--job", "pre:teach", "--dry-run"), "leave one of them out"),
        (("jobs", "configs/text/tiny_math_tiny.yaml", "run.dir=text.mp4"), "text.mp4 is a file, not the folder of"),
        (("train", "configs/text/tiny_math_tiny.yaml", "run.dir=text.mp4"), "text.mp4 is a file, not the folder of"),
        (("init",), "give a kind and a folder, such as `aot init video my_clips`; kinds: video, text, chat, real"),
        (("init", "vidoe", "out"), "no kind 'vidoe'; give one of video, text"),
        (("walk",), "walk"),
    ],
)
def test_bad_input_exits_2_with_one_line_and_no_traceback(
    arguments: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("no clip\n")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "list.mp4").write_text("#EXTM3U\nhttp://localhost/clip.ts\n")
    (tmp_path / "run.yaml").write_text("data: {dataset: plain, root: no_such_folder}\n")
    (tmp_path / "README.md").write_text("# Notes\n")
    before = set(tmp_path.iterdir())
    done = aot(*(str(ROOT / one) if one.startswith("configs/") else one for one in arguments), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr and "Traceback" not in done.stderr
    assert set(tmp_path.iterdir()) == before


def test_score_prints_numbers_and_exits_3_where_predictions_are_missing(tmp_path: Path) -> None:
    question = {"video": "a.mp4", "question": "How many eggs?", "kind": "count"}
    rows = [{**question, "id": f"q{number}", "answer": number} for number in (1, 2)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "p.json").write_text('{"q1": 1}')
    command = ("score", str(tmp_path / "p.json"), "--questions", str(tmp_path / "q.jsonl"))
    done, as_json = aot(*command), aot(*command, "--json")
    assert (done.returncode, as_json.returncode) == (3, 3), done.stderr
    assert "missing 1" in done.stdout and "50.00%" in done.stdout and "n=2" in done.stdout
    assert json.loads(as_json.stdout)["problems"] == {"missing": 1}


def test_a_missing_optional_package_is_told_in_one_line(tmp_path: Path) -> None:
    program = "import sys; sys.modules['cv2'] = None; import aot.cli; aot.cli.main()"
    command = [sys.executable, "-c", program, "ask", "clip.mp4", "What is next?"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "the package cv2 is not installed; " in done.stderr and "pip install -e '" in done.stderr


@pytest.mark.parametrize(("module", "told"), [("torch.nn", "[train]"), ("jinja2", "[report]")])
def test_the_extra_of_a_missing_package_is_named(module: str, told: str) -> None:
    assert told in str(missing_package(module))


def test_an_install_hint_names_the_clone_or_the_wheel_that_it_is_read_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pip").touch(mode=0o755)
    (tmp_path / "a clone").mkdir()
    (tmp_path / "a clone" / "pyproject.toml").touch()
    assert install_command("video", clone=tmp_path / "bin") == "pip install 'aot-distill[video]'"
    assert install_command("video", clone=tmp_path / "a clone") == f"pip install -e '{tmp_path}/a clone[video]'"
    monkeypatch.chdir(tmp_path / "a clone")
    assert install_command("video", clone=tmp_path / "a clone") == "pip install -e '.[video]'"


def test_an_install_hint_names_the_python_whose_pip_is_not_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    assert install_command("train", clone=tmp_path) == ".venv/bin/python -m pip install -e '.[train]'"


def test_a_missing_module_of_our_own_is_a_bug() -> None:
    assert missing_package("aot.nowhere") is None


@pytest.mark.parametrize("module", ["typer", "pydantic", "aot.config"])
def test_ctrl_c_before_there_is_a_run_folder_is_one_sentence(module: str, tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "aot", "prepare", "configs/video/toy_kitchen_tiny.yaml"]
    child = subprocess.Popen(
        [*command, f"run.dir={tmp_path / 'run'}"], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert child.stderr is not None
    for line in child.stderr:  # each import, as it ends
        if line.split("|")[-1].strip() == module:
            break
    child.send_signal(signal.SIGINT)
    _, told = child.communicate()
    lines = [line for line in told.splitlines() if not line.startswith("import time:")]
    assert (child.returncode, len(lines)) == (4, 1) and lines[0].startswith("aot: stopped by a signal"), told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_exits_4_and_says_how_to_go_on(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aot", "run", "configs/video/toy_kitchen.yaml", f"run.dir={tmp_path / 'run'}"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("run/clips/*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(number)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 4, errors
    assert "the same command goes on" in errors and "Traceback" not in errors
    stage = json.loads((tmp_path / "run" / "run.json").read_text())["stages"]["prepare"]
    cause = "Ctrl-C" if number == signal.SIGINT else number.name
    assert (stage["state"], stage["error"]) == ("stopped", f"stopped by {cause}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_the_first_imports_is_one_line_and_exit_code_4(number: signal.Signals) -> None:
    program = f"""
import os, sys
import aot.__main__
class Kill:
    def find_spec(self, name, *rest):
        if name == "typer":
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Kill())
aot.__main__.main()
"""
    done = subprocess.run([sys.executable, "-c", program, "doctor"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (4, "aot: stopped by a signal before anything was begun\n")


def test_a_signal_during_a_verb_that_keeps_nothing_does_not_say_that_it_does(tmp_path: Path) -> None:
    program = f"""
import os, sys
sys.argv[1:] = ["probe", {str(ROOT / "README.md")!r}]
import aot.cli, aot.pipeline.commands.clips
aot.pipeline.commands.clips.probe_clip = lambda *a, **k: os.kill(os.getpid(), {int(signal.SIGTERM)})
aot.cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (4, "aot: stopped by a signal\n")


def shell(line: str, *, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which `aot` is this one; the exit code is that of its first command."""
    script = f'aot() {{ {sys.executable} -m aot "$@"; }}; {line}; exit ${{PIPESTATUS[0]}}'
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "", **environment}
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, encoding="utf-8", cwd=cwd, check=False, env=variables
    )


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text('{"stages": {"prepare": {"state": "done", "done": 3, "total": 3}}}')
    return tmp_path


@pytest.mark.parametrize(
    ("streams", "code", "told"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("| true", 0, ""),
        (">/dev/full", 4, "aot: standard output cannot be written (No space left on device); send it elsewhere\n"),
        (">/dev/full 2>/dev/full", 4, ""),
    ],
)
def test_closed_and_full_streams_are_survived_or_told_in_a_line(
    streams: str, code: int, told: str, small_run: Path
) -> None:
    done = shell(f"aot status run {streams}", cwd=small_run)
    assert (done.returncode, done.stderr) == (code, told)
    assert shell(f"aot status nowhere {streams.replace('>/dev/full ', '')}", cwd=small_run).returncode == 2


TEXT_JOB = f"{ROOT}/configs/text/tiny_math_tiny.yaml run.dir=run 'data.math={{train: 4, test: 2, test_ood: 1}}'"


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_a_stage_does_its_work_whatever_its_streams_are(streams: str, tmp_path: Path) -> None:
    done = shell(f"aot prepare {TEXT_JOB} 'evaluate.splits=[test]' {streams}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert lines and all(" INFO " in line for line in lines), "a closed stream's number went to the next file"
    assert all(line.startswith("{") for line in (tmp_path / "run" / "questions.jsonl").read_text().splitlines())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_words_that_a_stream_cannot_say_are_escaped(encoding: str, tmp_path: Path) -> None:
    done = shell("aot status 汤é 2>told", cwd=tmp_path, PYTHONIOENCODING=encoding)
    shown = {"ascii": "\\u6c64\\xe9", "latin-1": "\\u6c64é", "utf-8": "汤é"}[encoding]
    assert done.returncode == 2 and f"aot: {shown} holds no" in (tmp_path / "told").read_text(encoding=encoding)


def test_a_question_in_another_encoding_than_the_terminals_is_asked(tmp_path: Path) -> None:
    from video_data.kitchen.dataset import draw_toy_kitchen

    draw_toy_kitchen(tmp_path, seed=0, counts={"train": 1, "test": 0, "test_ood": 0}, workers=1)
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell("aot ask train_0000.mp4 'Ist da ein Löffel — 汤?' --choice é --choice b", cwd=tmp_path, **plain)
    assert "Traceback" not in done.stderr and "answer" in done.stdout, done.stderr


LOST = """
import os, signal, sys, time
from aot import cli
from aot.interrupts import Interrupted
class Thing:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.1)
def work(**settings):
    Thing()
    try:
        time.sleep(30)
    except Interrupted as error:
        print("came again:", error)
    return 0
cli.app = work
cli.main()
"""


def test_a_signal_that_comes_where_nothing_can_be_raised_comes_again() -> None:
    done = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout == "came again: SIGHUP\n", done.stderr


SWALLOWS = """
import os, signal, sys
from aot import cli
class Library:
    def find_spec(self, name, path=None, target=None):
        if name == library:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                sum(range(1000))
            except:
                pass
library = sys.argv.pop(1)
sys.meta_path.insert(0, Library())
cli.main()
"""


@pytest.mark.parametrize(
    ("library", "words", "told"),
    [
        ("cv2", ["prepare", "configs/video/toy_kitchen_tiny.yaml"], "finished work is kept"),
        ("typer._click._textwrap", ["--help"], "aot: stopped by a signal\n"),
    ],
)
def test_a_signal_that_an_import_swallows_ends_the_command_with_4(
    library: str, words: list[str], told: str, tmp_path: Path
) -> None:
    settings = [f"run.dir={tmp_path / 'run'}"] if "prepare" in words else []
    command = [sys.executable, "-c", SWALLOWS, library, *words, *settings]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert ended.returncode == 4 and told in ended.stderr, ended.stderr


THROUGH_C = """
import ctypes, signal, sys
from aot import cli
signal.signal(signal.SIGTERM, cli._interrupt)
run = ctypes.pythonapi.PyRun_String
run.argtypes, run.restype = [ctypes.c_char_p, ctypes.c_int, ctypes.py_object, ctypes.py_object], ctypes.py_object
try:
    run(b"import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", 257, {}, {})
except KeyboardInterrupt:
    sys.exit(4)
"""


def test_an_interrupt_that_passed_through_c_does_not_change_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "through_c.py").write_text(THROUGH_C)
    command, paths = [sys.executable, "-m", "through_c"], {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(command, check=False, cwd=tmp_path, env=paths).returncode == 4
