"""From a served student to an alarm: canaries drawn, asked through the server, and lost when something else answers."""

import json
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from aot.answer_records import ServedRow
from aot.cli import app
from aot.config import load_config
from aot.drift.look import clips_of, read_canaries
from aot.errors import ConfigError
from aot.files.run_folder import RunFolder, publish_rows, read_rows
from aot.pipeline import run_stages
from aot.records import Question
from aot.serving.server.app import build_app
from aot.serving.server.command import read_redactions
from aot.serving.server.limits import Limits
from aot.serving.server.served import Recorder, serve_export

KITCHEN = Path(__file__).parents[2] / "configs" / "video" / "toy_kitchen_tiny.yaml"
CONFIG = Path(__file__).parents[2] / "configs" / "text" / "tiny_math_tiny.yaml"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of maths problems that has its questions and nothing else."""
    folder = tmp_path_factory.mktemp("watch") / "run"
    settings = ("data.math={train: 24, test: 8, test_ood: 2}", f"run.dir={folder}")
    config = load_config(CONFIG, overrides=settings)
    return run_stages(config, config_path=CONFIG, command=["aot"], stages=("prepare",))[0]


def aot(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)
    return done.exit_code, done.output + (str(done.exception) if done.exception else "")


def test_canaries_that_the_server_loses_are_an_alarm_with_exit_code_3(
    prepared: RunFolder, text_export: Path, tmp_path: Path
) -> None:
    canaries, log = tmp_path / "canaries.jsonl", tmp_path / "served.jsonl"
    code, said = aot("watch", text_export, "--canaries", canaries, "--draw", 24, "--run", prepared.root)
    assert code == 0 and "24 canaries" in said, said
    drawn = read_canaries(canaries)
    seen = {one.text for one in read_rows(prepared.questions, Question)}
    right = [one for one in drawn if one.right][:6]
    assert len(right) > 2 and seen.isdisjoint(one.question.text for one in drawn)
    look = ("watch", text_export, "--log", log, "--canaries", canaries)
    served = serve_export(text_export, limits=Limits(), recorder=Recorder(log, with_text=True))
    with TestClient(build_app(served)) as client:

        def ask_all() -> None:
            for one in right:
                message = {"role": "user", "content": one.question.text}
                assert client.post(
                    "/v1/chat/completions", json={"model": "tiny-text", "messages": [message]}
                ).is_success

        ask_all()
        code, said = aot(*look)
        assert code == 0 and f"{len(right)} of 24 were asked; 0 that were right" in said, said
        assert served.student is not None
        with torch.no_grad():  # a kernel, a driver, a wrong file: the contract is the same, and the answers are others
            for weight in served.student.student.model.parameters():
                weight.mul_(0.5)
        ask_all()
        ask_all()
        code, said = aot(*look)
    served.close()
    assert code == 3 and "ALARM canaries_lost" in said and "Check the pipeline first" in said, said
    assert log.with_suffix(".watch").exists()


def test_an_export_that_is_as_it_was_answers_its_canaries_as_before(
    prepared: RunFolder, text_export: Path, tmp_path: Path
) -> None:
    canaries = tmp_path / "canaries.jsonl"
    assert aot("watch", text_export, "--canaries", canaries, "--draw", 8, "--run", prepared.root)[0] == 0
    code, said = aot("watch", text_export, "--canaries", canaries, "--ask")
    assert code == 0 and "8 of 8 were asked; 0 that were right" in said, said
    code, said = aot("watch", text_export, "--canaries", canaries, "--draw", 8, "--run", prepared.root)
    assert code != 0 and "is there already" in said


def test_canaries_about_clips_come_from_the_seed_and_are_lost_when_clips_show_something_else(
    video_export: Path, tmp_path: Path
) -> None:
    settings = ("data.toy={train_clips: 1, test_clips: 1, test_ood_clips: 1}", f"run.dir={tmp_path / 'run'}")
    config = load_config(KITCHEN, overrides=settings)
    run, _ = run_stages(config, config_path=KITCHEN, command=["aot"], stages=("prepare",))
    files = [tmp_path / name for name in ("one.jsonl", "two.jsonl")]
    for file in files:
        code, said = aot("watch", video_export, "--canaries", file, "--draw", 5, "--run", run.root)
        assert code == 0 and "5 canaries" in said, said
    one, two = map(read_canaries, files)
    clips, again = (sorted(clips_of(file).glob("*.mp4")) for file in files)
    assert one == two and all(row.question.media and not row.question.id.startswith("test") for row in one)
    contents, others = ([path.read_bytes() for path in paths] for paths in (clips, again))
    assert contents == others
    ours = {path.read_bytes() for path in run.clips.glob("*.mp4")}
    assert len(clips) > 4 and not ours.intersection(contents)
    known = [
        row.model_copy(update={"right": True, "question": row.question.model_copy(update={"answer": row.answer})})
        for row in one
        if row.answer in row.question.choices
    ]  # the base is at chance here: what it says at export is taken for right
    publish_rows(files[0], known)
    look = ("watch", video_export, "--canaries", files[0], "--ask")
    code, said = aot(*look)
    assert code == 0 and f"{len(known)} of {len(known)} were asked; 0 that were right" in said, said
    for path, content in zip(clips, [*contents[1:], contents[0]], strict=True):  # a camera that was plugged elsewhere
        path.write_bytes(content)
    code, said = aot(*look)
    assert code == 3 and "ALARM canaries_lost" in said, said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--ask",), "name their file with --canaries"),
        ((), "nothing to look at"),
        (("--draw", "5"), "it takes --canaries NEW_FILE and --run RUN"),
        (("--log", "x.jsonl", "--promise", "90"), "--promise 90 must lie between 0 and 1"),
        (("--log", "nowhere.jsonl"), "nowhere.jsonl cannot be read"),
        (("--log", "nowhere.jsonl", "--canaries", "none.jsonl"), "there is no file none.jsonl; draw canaries"),
    ],
)
def test_commands_that_cannot_be_done_say_why(text_export: Path, words: tuple[str, ...], told: str) -> None:
    code, said = aot("watch", text_export, *words)
    assert code != 0 and told in said


def test_an_empty_file_of_canaries_is_refused(text_export: Path, tmp_path: Path) -> None:
    empty = tmp_path / "canaries.jsonl"
    empty.touch()
    code, said = aot("watch", text_export, "--canaries", empty, "--ask")
    assert code != 0 and "holds no canary; draw some" in said


def test_questions_worth_new_traces_become_a_file_that_a_run_takes(
    prepared: RunFolder, text_export: Path, tmp_path: Path
) -> None:
    canaries, out = tmp_path / "canaries.jsonl", tmp_path / "new.jsonl"
    assert aot("watch", text_export, "--canaries", canaries, "--draw", 24, "--run", prepared.root)[0] == 0
    wrong = sum(not one.right for one in read_canaries(canaries))
    old = next(one for one in read_rows(prepared.questions, Question) if one.split == "test")
    rows = [
        {"question": "How many legs have three spiders?", "gold": 24, "right": False},
        {"question": "Which colour has snow?", "agreed": False},
        {"question": "Why do cats purr so often at night?", "confidence": 0.9},
        {"question": old.text, "right": False}, {"question_sha256": "0" * 64}, {"question": ""},
    ]  # fmt: skip
    log = tmp_path / "served.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("retrain-advice", prepared.root, "--log", log, "--canaries", canaries, "--out", out)
    code, said = aot(*words)
    assert code == 0, said
    for line in (f"canary answered wrong: {wrong} question", "\nanswered wrong: 1 question", "disagrees: 1 question",
                 "far from training: 1 question", "listed already: 1", "no_text: 2"):  # fmt: skip
        assert line in said, said
    assert len(out.read_text().splitlines()) == wrong + 1
    assert len(out.with_name("new-unlabelled.jsonl").read_text().splitlines()) == 2
    assert "is there already" in aot(*words)[1]
    (tmp_path / "test.jsonl").write_text(
        '{"question": "How many wings have four bees?", "answer": 16, "split": "test"}'
    )
    settings = (
        "data={dataset: text_jsonl, root: " + str(tmp_path) + ", files: {train: new.jsonl, test: test.jsonl}}",
        "teacher={planner: given}", "evaluate.splits=[test]", f"run.dir={tmp_path / 'again'}",
    )  # fmt: skip
    config = load_config(CONFIG, overrides=settings)
    again, _ = run_stages(config, config_path=CONFIG, command=["aot"], stages=("prepare",))
    texts = {one.text for one in read_rows(again.questions, Question)}
    assert "How many legs have three spiders?" in texts and len(texts) == wrong + 2


def test_what_a_pattern_matches_is_not_noted(tmp_path: Path) -> None:
    hide = read_redactions(CONFIG.parents[1] / "serving" / "redact.txt")
    recorder = Recorder(tmp_path / "served.jsonl", with_text=True, redact=hide)
    row = ServedRow(id="r", time_s=0.0, route="/", status=200)
    words = "I am ann@mail.example.org, +49 (30) 1234567, 4111 1111 1111 1111: what is 12345 + 7?"
    recorder.note(row, question=words, text="ann@mail.example.org")
    recorder.close()
    noted = json.loads((tmp_path / "served.jsonl").read_text())
    assert noted["question"] == "I am [email], [phone], [card]: what is 12345 + 7?" and noted["answer"] == "[email]"
    bad = tmp_path / "bad.txt"
    bad.write_text("# fine\nemail (\n")
    with pytest.raises(ConfigError, match=r"bad\.txt:2: missing \)"):
        read_redactions(bad)
