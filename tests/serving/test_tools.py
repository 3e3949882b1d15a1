"""A student that calls tools, outside its run: exported with its book, proved, asked, and given another book."""

from dataclasses import replace
from pathlib import Path

import pytest
from export_kit import CARDS, calling_run, proof_questions
from fastapi.testclient import TestClient

from aot import load_student
from aot.acting.carried import bench_of, carried_tools, plan_budget, read_book
from aot.answer_records import AnswerRow, ServedRow
from aot.arms.tool_use import offered_tools
from aot.cli import app
from aot.config import load_saved
from aot.errors import CheckpointError, ConfigError, RunError
from aot.files.run_folder import RunFolder, read_rows
from aot.pipeline.student.predict import predict_file
from aot.run_records import RecipeCard
from aot.serving.contract import read_contract
from aot.serving.export.arm import export_arm
from aot.serving.export.probe import answers, likeness
from aot.serving.export.server_probe import server_likeness
from aot.serving.server.app import build_app
from aot.serving.server.limits import Limits
from aot.serving.server.served import Recorder, Served, serve_export
from aot.serving.student import Ask
from aot.teacher.bench import Budget
from aot.teacher.tools.book import RecipeBook


class BackEnd:
    """A chat model that is never asked."""

    name = "behind"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return calling_run(tmp_path_factory.mktemp("calls"))


@pytest.fixture(scope="module")
def export(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The arm `acts`, exported and proved by a process of its own."""
    out = tmp_path_factory.mktemp("exports") / "cook"
    export_arm(run, "acts", out)
    return out


def test_a_fresh_process_makes_the_same_calls_and_gives_the_same_answers(run: RunFolder, export: Path) -> None:
    proof = read_contract(export).proof
    assert proof is not None and (proof.questions, proof.replies, proof.same_replies) == (4, 4, 4)
    with load_student(export, device="cpu") as served:
        questions, said = proof_questions(run), []
        for cards in (CARDS[:2], (CARDS[2], CARDS[1])):
            bench = bench_of(served.contract, RecipeBook(cards))
            said.append(answers(served.student, questions, modes=["tools"], frames=None, batch_size=4, bench=bench))
    assert not likeness(*said).is_proof, "another result of a tool must show, or the proof proves nothing"


def test_the_contract_names_the_tools_as_the_student_was_told_of_them(run: RunFolder, export: Path) -> None:
    contract = read_contract(export)
    assert contract.modes == ("tools",) and [row.mode for row in contract.latency] == ["tools"]
    assert [(tool.name, tool.needs) for tool in contract.tools] == [
        ("calculator", ""),
        ("look_up_recipe", "recipe_book"),
    ]
    told = [one.model_dump() for one in offered_tools(["calculator", "look_up_recipe"])]
    assert [tool.definition for tool in contract.tools] == told
    assert contract.plan == plan_budget(load_saved(run.config).teacher)
    assert "Its book has 2 cards" in (export / "README.md").read_text()


def test_cards_beside_single_questions_stay_and_an_altered_book_is_refused(export: Path) -> None:
    book = export / "book.jsonl"
    assert tuple(read_rows(book, RecipeCard)) == CARDS[:2]
    before = book.read_bytes()
    try:
        book.write_bytes(before.replace(b"steep", b"stamp"))
        with pytest.raises(CheckpointError, match=r"book\.jsonl was altered after the export"):
            load_student(export)
    finally:
        book.write_bytes(before)


def test_a_tool_that_needs_frames_or_models_of_the_run_is_refused_in_words() -> None:
    offered = [one.model_dump() for one in offered_tools(["look_up_recipe", "find_moments"])]
    with pytest.raises(ConfigError, match=r"calls find_moments, which looks at stored frames .* look_up_recipe: train"):
        carried_tools(offered)


def test_a_tool_of_another_version_and_a_missing_book_are_refused(export: Path) -> None:
    contract = read_contract(export)
    other = contract.tools[1].model_copy(update={"version": "7"})
    with pytest.raises(CheckpointError, match="calls version 7 of look_up_recipe, and this aot-distill has 2"):
        bench_of(contract.model_copy(update={"tools": (other,)}), RecipeBook(CARDS))
    with pytest.raises(CheckpointError, match=r"no book\.jsonl lies in its export"):
        bench_of(contract, None)


def test_no_server_of_others_is_compared_with_a_student_that_calls_tools(run: RunFolder, export: Path) -> None:
    with pytest.raises(ConfigError, match="calling tools, which other servers do not run"):
        server_likeness(export, proof_questions(run), frames=None, url="http://127.0.0.1:9/v1", model="")


def test_an_answer_comes_with_its_calls_and_choices_do_not_change_the_way(export: Path) -> None:
    with load_student(export, device="cpu") as student:
        tea, total = student.ask_many([Ask("What is in tea?"), Ask("What is 0 + 1 + 2?")])
        chosen = student.ask("What is in tea?", choices=("stir", "steep"))
    assert (tea.answer, total.answer, tea.mode, tea.confidence, tea.abstained) == ("steep", "3", "tools", None, "")
    assert [(one.tool, one.arguments, one.result) for one in total.calls] == [
        ("calculator", {"expression": "0 + 1 + 2"}, {"value": "3"})
    ]
    assert tea.calls[0].result == {"cards": [{"name": "tea", "text": "boil, steep", "score": 1.0}]}
    assert chosen.mode == "tools", "a student that was taught to look up is not asked to guess"


def test_a_plan_over_its_budget_abstains_with_the_reason_of_the_evaluation(export: Path) -> None:
    with load_student(export, device="cpu") as student:
        assert student.bench is not None
        student.bench = replace(student.bench, budget=Budget(max_calls=0, time_limit_s=9.0))
        answer = student.ask("What is in tea?")
    assert (answer.answer, answer.abstained, answer.reasons) == ("", "cut_off", ("too_many_calls",))
    assert answer.detail == "the plan ended without an answer: no answer after 0 calls"


def test_a_folder_of_cards_stands_in_for_the_book_that_came_along(
    export: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cards = tmp_path / "cards"
    cards.mkdir()
    (cards / "tea.txt").write_text("steep\nboil\n")
    (cards / "odd.json").write_text("{")
    with load_student(export, device="cpu", book=cards) as student:
        assert student.ask("What is in tea?").calls[0].result == {
            "cards": [{"name": "tea", "text": "steep, boil", "score": 1.0}]
        }
        assert student.digest != read_contract(export).digest()
    assert "1 card used" in caplog.text and "broken_json 1" in caplog.text
    (cards / "tea.txt").unlink()
    with pytest.raises(ConfigError, match="holds no recipe card that can be used"):
        load_student(export, book=cards)


def test_predict_keeps_rows_of_one_book_apart_from_those_of_another(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions, out, cards = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "cards"
    questions.write_text('{"id": "a", "question": "What is in tea?"}\n')
    cards.mkdir()
    (cards / "tea.md").write_text("steep\nboil\n")
    app(["predict", str(export), "--in", str(questions), "--out", str(out)], standalone_mode=False)
    (row,) = read_rows(out, AnswerRow)
    assert (row.answer, row.calls[0].tool) == ("steep", "look_up_recipe")
    with pytest.raises(RunError, match="holds answers of another student"):
        predict_file(export, questions, out, book=read_book(cards))
    app(["predict", str(export), "What is in tea?", "--book", str(cards)], standalone_mode=False)
    assert 'look_up_recipe(words="tea") -> {"cards": [{"name": "tea", "text": "steep, boil"' in capsys.readouterr().out


def test_a_book_for_a_student_that_looks_nothing_up_is_refused(text_export: Path) -> None:
    with pytest.raises(ConfigError, match="has no use for a book: it calls no tool"):
        load_student(text_export, book=RecipeBook(CARDS))


def test_a_server_runs_the_calls_tells_them_and_notes_whether_the_answer_is_theirs(
    export: Path, tmp_path: Path
) -> None:
    log = tmp_path / "served.jsonl"
    served = serve_export(export, limits=Limits(), recorder=Recorder(log, with_text=False))
    try:
        with TestClient(build_app(served)) as client:
            body = {"model": served.name, "messages": [{"role": "user", "content": "What is in tea?"}]}
            reply = client.post("/v1/chat/completions", json=body).json()
            assert reply["choices"][0]["message"]["content"] == "Answer: steep"
            said = reply["aot"]
            assert (said["answer"], said["mode"], said["calls"][0]["tool"]) == ("steep", "tools", "look_up_recipe")
            assert "tool_calls" not in reply["choices"][0]["message"] and reply["usage"]["completion_tokens"] > 0
            assert [row.tool_agreement for row in read_rows(log, ServedRow)] == [1.0]
            streamed = client.post("/v1/chat/completions", json={**body, "stream": True}).text
            assert '"Answer: steep"' in streamed and streamed.endswith("data: [DONE]\n\n")
            for more, name in (({"temperature": 0.5}, "temperature"), ({"max_tokens": 5}, "max_tokens")):
                error = client.post("/v1/chat/completions", json={**body, **more})
                assert (error.status_code, error.json()["error"]["param"]) == (400, name)
    finally:
        served.close()


def test_servers_behind_this_one_run_no_tools_and_it_says_what_does(export: Path) -> None:
    served = Served(BackEnd(), read_contract(export))  # type: ignore[arg-type]
    with TestClient(build_app(served)) as client:
        body = {"model": served.name, "messages": [{"role": "user", "content": "What is in tea?"}]}
        error = client.post("/v1/chat/completions", json=body).json()["error"]
    assert error["code"] == "no_tools" and "aot serve without --student" in error["message"]
