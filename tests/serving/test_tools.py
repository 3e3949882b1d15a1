"""A student that calls tools, outside its run: exported with its book, proved, asked, and given another book."""

from pathlib import Path

import pytest
from export_kit import CARDS, calling_run, proof_questions

from aot import load_student
from aot.acting.carried import bench_of, carried_tools, plan_budget
from aot.arms.tool_use import offered_tools
from aot.config import load_saved
from aot.errors import CheckpointError, ConfigError
from aot.files.run_folder import RunFolder, read_rows
from aot.run_records import RecipeCard
from aot.serving.contract import read_contract
from aot.serving.export.arm import export_arm
from aot.serving.export.probe import answers, likeness
from aot.serving.export.server_probe import server_likeness
from aot.teacher.tools.book import RecipeBook


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
