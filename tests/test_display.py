"""Nothing from outside reaches a terminal, a log or a page as something that is obeyed; letters of any script stay."""

import io
import json
import logging
import os
import re
import subprocess
import sys
from html import escape
from pathlib import Path

import pytest

from aot.config import load_config
from aot.display import PlainFormatter, clean, clean_json, one_line
from aot.files.run_folder import RunFolder, publish, publish_json, publish_rows, read_rows, set_stage
from aot.pipeline.evaluate import plan_predictors
from aot.records import Prediction, Question
from aot.reporting.markdown import code, markdown_text, yaml_value
from video_data.kitchen.dataset import draw_toy_kitchen

ROOT = Path(__file__).parents[1]
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")
HOSTILE = "\x1b]0;evil\x07\x1b[31m\u202e\x9b2J\u2066\x7f\u200b"
LINES = f"{HOSTILE}\naot: all is well\r"
LEGIT = "中文 汤 naïve Ωμέγα שלום مرحبا 🍳🥚 e\u0301 \N{VARIATION SELECTOR-16} <b> & \\"
SPLIT = "held\u202eout"
"""A config takes no control characters, but this."""


def test_letters_of_any_script_stay() -> None:
    assert one_line(LEGIT) == clean(LEGIT) == clean_json(LEGIT) == LEGIT


@pytest.mark.parametrize("char", [*map(chr, range(0x20)), "\x7f", "\x80", "\x9b", "\xad", "\u061c", "\u200b", "\u200e",
                                  "\u2028", "\u202e", "\u2066", "\ufeff", "\U000e0041", "\ud800"])  # fmt: skip
def test_what_a_terminal_obeys_is_gone_and_json_means_the_same(char: str) -> None:
    shown = one_line(f"a{char}b")
    assert not OBEYED.search(shown) and "\n" not in shown and shown.isprintable()
    assert not OBEYED.search(clean(f"a{char}b"))
    text = json.dumps({"key": f"a{char}b"}, ensure_ascii=False)
    assert not OBEYED.search(clean_json(text)) and json.loads(clean_json(text)) == json.loads(text)


def test_a_log_line_is_one_line_and_a_traceback_keeps_its_lines() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.info("clip %s", LINES)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logger.exception("failed")
    first, second, *trace = stream.getvalue().splitlines()
    assert first.startswith("INFO clip \\x1b]0;evil") and first.endswith("aot: all is well ")
    assert second == "ERROR failed" and len(trace) > 2
    assert not OBEYED.search(stream.getvalue())


ATTACKS = (
    "[x](javascript:alert(1))", "![p](http://evil/x.png)", "[x]: http://evil", "<script>alert(1)</script>", "`code`",
    "a | b", "# heading", "- item", "1. item", "~~~", "a\n\n# b", "*bold*", "\\[x](y)", "http://evil", "www.evil.com",
    "[x][y]", HOSTILE,
)  # fmt: skip


@pytest.mark.parametrize("text", ATTACKS)
def test_markdown_keeps_text_as_text(text: str) -> None:
    shown = str(markdown_text(text))
    assert not re.search(r"(?<!\\)(?:\\\\)*\][(\[:]|<|(?<!\\)`|(?<!\\)\||//|www\.|\n", shown), shown
    assert not re.match(r"[#~=]|[-+]\s|\d+[.)]\s", shown)
    assert code(text).count("`") == 2 and "<" not in code(text) and "\n" not in code(text)
    assert "\n" not in yaml_value(text) and "<" not in yaml_value(text)


def test_numbers_intervals_and_names_stand_in_markdown_as_they_were() -> None:
    for text in ("41.7% [23.4, 62.5] n=24", "distilled_no_frames", "-8.3 points", ", ", ".", "Apache-2.0"):
        assert str(markdown_text(text)) == text
    assert markdown_text(3) == 3 and yaml_value("Apache-2.0") == "Apache-2.0" and yaml_value("a: b") == '"a: b"'


def hostile_data(folder: Path) -> Path:
    """A plain data set whose file names, labels, kinds and splits are hostile; the path of its config."""
    clips = folder / "toy"
    draw_toy_kitchen(clips, seed=0, counts={"train": 2, "test": 1, "test_ood": 0}, workers=1)
    data = folder / "data"
    data.mkdir()
    questions, annotations = [], []
    for number, clip in enumerate(sorted(clips.glob("*.mp4"))):
        name, split = f"c{number}{LINES}.mp4", "train" if number else SPLIT
        clip.rename(data / name)
        segments = [{"start_s": s, "end_s": s + 2.0, "label": f"chop{HOSTILE} {s}"} for s in (0.0, 2.0)]
        annotations.append({"video": name, "task": f"t{HOSTILE}", "duration_s": 9.0, "split": split,
                            "segments": segments})  # fmt: skip
        questions += [
            {"id": f"q{LINES}{number}{k}", "video": name, "split": split, "kind": f"kind{HOSTILE}",
             "question": f"What now {k}?", "choices": [f"a{HOSTILE}", "b"], "answer": "b"} for k in range(2)
        ]  # fmt: skip
    (data / f"bad{LINES}.mp4").write_text("no clip")
    (data / os.fsdecode(b"raw\xff\x1b.mp4")).write_text("no clip")
    questions.append({**questions[0], "id": f"x{LINES}", "video": f"bad{LINES}.mp4", "split": "train"})
    questions.append({"id": f"y{LINES}", f"fie{HOSTILE}ld": 1})
    for name, rows in (("questions", questions), ("annotations", annotations)):
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = data / "run.yaml"
    config.write_text(
        f"data: {{dataset: plain, root: {data}, questions: questions.jsonl, annotations: annotations.jsonl}}\n"
        f"evaluate: {{splits: [{json.dumps(SPLIT, ensure_ascii=False)}], bootstrap_samples: 100}}\n"
        "frames: {workers: 1}\nteacher: {workers: 1, max_failed_share: 1}\nfilter: {min_kept: 0}\n"
    )
    return config


def walk(*commands: tuple[str, ...], cwd: Path) -> bytes:
    """What the command lines print, on either stream, one after the other in one process."""
    program = (
        "import sys\nfrom aot import cli\n"
        "for line in sys.stdin.buffer.read().split(b'\\0\\0'):\n"
        "    import os\n    sys.argv = ['aot', *map(os.fsdecode, line.split(b'\\0'))]\n"
        "    try:\n        cli.main()\n    except SystemExit as end:\n        print('exit', end.code, flush=True)\n"
    )
    lines = b"\0\0".join(b"\0".join(map(os.fsencode, command)) for command in commands)
    done = subprocess.run(
        [sys.executable, "-c", program], input=lines, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert b"Traceback" not in done.stdout, done.stdout.decode(errors="replace")
    assert done.stdout.count(b"exit ") == len(commands)
    return done.stdout


def assert_obeys_nothing(printed: bytes) -> None:
    text = printed.decode()  # whole UTF-8
    assert not OBEYED.search(text), ascii(OBEYED.findall(text))
    assert not any(line.startswith("aot: all is well") for line in text.splitlines()), text


def finish_by_hand(run: RunFolder, config_path: Path) -> None:
    """Train and evaluate, as far as the verbs that print about them look."""
    config = load_config(run.config)
    for arm in config.train.arms:
        publish(run.arm(arm.name) / "DONE", "{}")
    asked = [q for q in read_rows(run.questions, Question) if q.split != "train"]
    for one in plan_predictors(run, config.train.arms, asked):
        rows = [Prediction(question_id=q.id, arm=one.arm, mode=one.mode, raw_text=f"b{LINES}",
                           answer=f"a{HOSTILE}" if one.arm == "base" else "b") for q in asked]  # fmt: skip
        publish_rows(run.predictions_of(one.arm, one.mode), rows)
    publish_json(run.metrics, [])
    set_stage(run, "train", "done")
    set_stage(run, "evaluate", "done", missing=2)


@pytest.mark.slow
def test_no_verb_prints_a_control_character_of_a_hostile_data_set(tmp_path: Path) -> None:
    config = hostile_data(tmp_path)
    folder, data = str(tmp_path / "run"), config.parent
    at = f"run.dir={folder}"
    run = RunFolder(Path(folder))
    clips = [str(path) for path in sorted(data.glob("*.mp4"))]
    good = next(clip for clip in clips if Path(clip).name.startswith("c0"))
    assert_obeys_nothing(
        walk(
            ("run", str(config), "--dry-run"), ("prepare", str(config), at), ("generate", str(config), at),
            ("filter", str(config), at), ("status", folder), ("baselines", str(config)),
            ("baselines", str(config), "--json"), *(("probe", clip) for clip in clips),
            *(("frames", clip, f"{folder}-{HOSTILE}", "--count", "1") for clip in clips),
            ("ask", good, f"What is {HOSTILE} next?", "--choice", f"a{HOSTILE}", "--choice", "b"),
            ("ask", good, f"What is {HOSTILE} next?", "--choice", f"a{HOSTILE}", "--choice", "b", "--json"),
            ("ask", good, os.fsdecode(b"what\xff\x1b next?")), ("ask", f"nowhere{LINES}", "What?"),
            ("run", f"nowhere{LINES}.yaml"), ("run", str(config), f"tra{HOSTILE}in.x=1"),
            ("run", str(config), f"train.max_steps=x{HOSTILE}"), ("run", str(config), "--limit", f"x{HOSTILE}"),
            (f"walk{HOSTILE}",), ("probe", f"--no{LINES}"), ("status", f"nowhere{LINES}"), ("doctor",),
            cwd=tmp_path,
        )
    )  # fmt: skip
    assert run.kept.exists()
    finish_by_hand(run, config)
    assert_obeys_nothing(
        walk(
            ("report", str(config), at), ("run", str(config), at), ("compare", folder, folder, "--arm-b", "base"),
            ("compare", folder, folder, "--arm-b", "base", "--json"), ("compare", folder, folder, "--arm", HOSTILE),
            cwd=tmp_path,
        )
    )  # fmt: skip
    set_stage(run, "filter", "failed", error=LINES)
    assert_obeys_nothing(walk(("status", folder), cwd=tmp_path))
    assert not OBEYED.search(run.log.read_text())
    for page in (run.report, run.model_card):
        assert not OBEYED.search(page.read_text()) and escape(HOSTILE) not in page.read_text()
