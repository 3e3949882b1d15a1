"""`aot export`: which arm, what it prints, what it does the second time, and a server beside the export."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from export_kit import in_this_process, proof_questions, trained_text_run, trained_video_run

from aot.cli import app
from aot.errors import AotError
from aot.files.run_folder import RunFolder, publish
from aot.serving.export import arm

MARK = "How an export is proved stands elsewhere."


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = trained_text_run(tmp_path_factory.mktemp("command"))
    publish(run.run_json, json.dumps({"command": [], "stages": {}}))
    publish(run.model_card, f"---\nlicense: mit\n---\n\n# Sums\n\n{MARK}\n")
    return run


@pytest.fixture(scope="module")
def sums(text_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The main arm of that run, exported in this process."""
    out = tmp_path_factory.mktemp("sums") / "export"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arm, "fresh_answers", in_this_process)
        run_aot("export", text_run.root, out)
    return out


def run_aot(*arguments: object) -> object:
    """The exit code of a command that ended by itself; none where it came to its end."""
    return app([str(one) for one in arguments], standalone_mode=False)


def test_without_an_arm_the_main_one_is_exported_with_the_card_of_its_run(sums: Path) -> None:
    contract = json.loads((sums / "contract.json").read_text())
    assert contract["arm"] == "all" and contract["licences"]["data"] == "Apache-2.0"
    card = (sums / "README.md").read_text()
    assert card.startswith("---\nlicense: mit") and MARK in card and "## This export" in card


def test_the_same_command_again_does_nothing_and_says_so(
    sums: Path, text_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in sums.iterdir()}
    run_aot("export", text_run.root, "all", sums)
    printed = capsys.readouterr().out
    assert "lies there already, whole; nothing was done" in printed and "greedy replies to 6 questions" in printed
    assert before == {path: path.stat().st_mtime_ns for path in sums.iterdir()}
    run_aot("export", text_run.root, sums, "--json")
    assert json.loads(capsys.readouterr().out)["proof"]["same_replies"] == 6


def test_the_same_command_finds_an_export_that_was_damaged_since(
    sums: Path, text_run: RunFolder, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(sums, tmp_path / "copy"))
    (folder / "generation_config.json").write_text("{}")
    with pytest.raises(AotError, match=r"generation_config.json was altered after the export"):
        run_aot("export", text_run.root, folder)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere", "out"), "is it a run folder"),
        (("RUN", "al", "out"), "has no arm 'al'; did you mean all?"),
        (("RUN", "all", "x", "out"), r"takes RUN \[ARM\] OUT, and 4 names came"),
        (("RUN", "all", "EXPORT", "--dtype", "bfloat16"), "another export"),
        (("RUN", "out", "--vision"), "--quantise int8 or int4 with it"),
        (("RUN", "out", "--adapter-only", "--quantise", "int8"), "leave the other options out"),
        (("RUN", "base", "out", "--adapter-only"), "the base has no adapter"),
        (("RUN", "all", "RUN/config.yaml"), "is no folder"),
        (("RUN", "all", "RUN/config.yaml/out"), "lies in the run folder"),
        (("RUN", "all", "RUN/out"), "lies in the run folder .*give a folder outside of it"),
        (("RUN", "all", "RUN"), "lies in the run folder"),
        (("RUN", "all", "RUN/out", "--adapter-only"), "lies in the run folder"),
        (("RUN", "all", "FILE/out"), "cannot write"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(
    arguments: tuple[str, ...], words: str, sums: Path, text_run: RunFolder, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    names = {"RUN": text_run.root, "EXPORT": sums, "FILE": sums / "contract.json"}
    given = [str(Path(str(names.get(first, first)), *rest)) for first, *rest in (one.split("/") for one in arguments)]
    with pytest.raises(AotError, match=words):
        run_aot("export", *given)
    assert not list(tmp_path.iterdir())


def test_an_arm_that_was_never_trained_is_told(tmp_path: Path, text_run: RunFolder) -> None:
    root = Path(shutil.copytree(text_run.root, tmp_path / "run"))
    shutil.rmtree(root / "student" / "all")
    with pytest.raises(AotError, match=r"no trained arm .* run the train stage first"):
        run_aot("export", root, tmp_path / "out")


@pytest.fixture
def server(sums: Path, text_run: RunFolder) -> Iterator[tuple[str, dict[str, str], list[Any]]]:
    """A server on this machine that says what the export says, but for texts that a test puts into `other`."""
    from aot import load_student
    from aot.serving.export.probe import answers

    with load_student(sums, device="cpu") as served:
        questions = proof_questions(text_run)
        made = answers(served.student, questions, modes=["adaptive"], frames=None, batch_size=4)
    replies = {q.text: p.raw_text for q, p in zip(questions, made, strict=True)}
    other: dict[str, str] = {}
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            said = body["messages"][-1]["content"]
            said = said if isinstance(said, str) else said[-1]["text"]
            text = next(reply for question, reply in {**replies, **other}.items() if said.startswith(question))
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            reply = json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
                                "choices": [choice]}).encode()  # fmt: skip
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *arguments: Any) -> None: ...

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}/v1", other, asked
    running.shutdown()
    running.server_close()
    thread.join()


def test_a_server_is_compared_with_the_export_reply_by_reply(
    server: tuple[str, dict[str, str], list[Any]], sums: Path, text_run: RunFolder, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from aot.serving.export import server_probe

    def ended(reason: str) -> None:
        """Replies of six steps of training may be cut off or not; those that are leave nothing to compare."""

        def answers(*arguments: Any, **more: Any) -> Any:
            return [row.model_copy(update={"finish_reason": reason}) for row in real(*arguments, **more)]

        monkeypatch.setattr(server_probe, "answers", answers)

    real = server_probe.answers
    url, other, asked = server
    command = ("export", text_run.root, sums, "--check-server", url, "--model", "sums")
    ended("length")
    assert run_aot(*command) == 3 and "6 replies were not compared" in capsys.readouterr().out
    ended("stop")
    assert not run_aot(*command)
    assert "6 of 6 greedy replies (100.0%) are those of the export" in capsys.readouterr().out
    assert {(body["model"], body["temperature"]) for body in asked} == {("sums", 0.0)}
    other[proof_questions(text_run)[2].text] = "Answer: 0"
    assert run_aot(*command) == 3
    printed = capsys.readouterr().out
    assert "5 of 6" in printed and "first that differs: ts2 (adaptive)" in printed


def test_a_server_is_shown_the_frames_behind_their_times(tmp_path: Path) -> None:
    from aot.serving.export.server_probe import _store
    from aot.student.answer.remote import shown_frames

    run = trained_video_run(tmp_path)
    question, store = proof_questions(run)[0], _store(run.frames)
    assert store is not None and question.media is not None
    shown = shown_frames(store, question.media, num_frames=3)
    assert [part.time_s for part in shown] == [0.5, 1.5, 2.5] and all(part.data[:4] == b"\x89PNG" for part in shown)
