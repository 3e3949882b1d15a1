"""`aot publish`: what lies in a published folder, what it is refused for, and that no byte of it changes unnoticed."""

import json
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_foreign_data import chats

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))
from export_kit import in_this_process

from aot.cli import app
from aot.config import load_config, load_saved
from aot.errors import AotError, ConfigError
from aot.files.run_folder import RunFolder, publish, read_run_json
from aot.pipeline import run_stages
from aot.pipeline.publication.bom import bill_of_materials, json_text
from aot.pipeline.publication.chain import ChainFile, chained, folder_entries, read_manifest
from aot.pipeline.publication.croissant import croissant_of
from aot.pipeline.publication.folder import check_folder
from aot.pipeline.publication.licences import settled
from aot.pipeline.publication.papers import Facts, model_card, notice
from aot.records import Prediction
from aot.reporting.load import load_run
from aot.served_records import StudentOrigin
from aot.serving.contract import read_contract
from aot.serving.export import arm

CONFIG = """
data: {{dataset: hf, hf: {{path: {path}, test_share: 0.3}}}}
teacher: {{planner: given}}
student: {{base: tiny-text, max_answer_tokens: 8, max_rationale_tokens: 24}}
train: {{max_steps: 2, questions_per_step: 8, questions_per_device: 8, arms: [{{name: pre, order: pre}}]}}
evaluate: {{splits: [test], batch_size: 64, bootstrap_samples: 100}}
"""
STATED = ("--licence", "data=cc-by-4.0", "--licence", "student=Apache-2.0")
HOSTILE = "x</script><img src=y>|\n# a `b` [c](javascript:d)\u202e\x1b[31m & <!--"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Somebody's chats, of which no file says the licence, with one arm after two steps."""
    folder = tmp_path_factory.mktemp("publish")
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats(40)))
    config_path = folder / "chats.yaml"
    config_path.write_text(CONFIG.format(path=folder / "chats.jsonl"))
    config = load_config(config_path, overrides=(f"run.dir={folder / 'run'}",))
    return run_stages(config, config_path=config_path, command=["aot", "run"])[0]


def here_and_gone(folder: Path, *arguments: Any, **more: Any) -> list[Prediction]:
    """What a fresh process would answer, without its second and what the other tests look into later."""
    made = in_this_process(folder, *arguments, **more)
    shutil.rmtree(folder.with_name(folder.name + "-probe"))
    return made


@pytest.fixture(scope="module")
def published(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("published") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arm, "fresh_answers", here_and_gone)
        assert not aot("publish", run.root, out, *STATED, "--by", "Somebody", "--probes", "4")
    return out


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "copy"))


def aot(*arguments: object) -> object:
    return app([str(one) for one in arguments], standalone_mode=False)


def problems(folder: Path) -> str:
    with pytest.raises(AotError) as caught:
        check_folder(folder)
    return str(caught.value)


def test_a_published_folder_holds_student_data_papers_and_a_chain_from_questions_to_card(published: Path) -> None:
    there = {path.name for path in published.iterdir()}
    assert there == {
        "README.md", "NOTICE.md", "bom.cdx.json", "croissant.json", "student", "data", "manifest.json",
        "manifest.json.sha256",
    }  # fmt: skip
    publication = check_folder(published)
    assert [link.name for link in publication.chain] == ["questions", "traces", "lessons", "adapter", "card"]
    assert publication.licences == {"base": "Apache-2.0", "data": "CC-BY-4.0", "student": "Apache-2.0"}
    assert publication.stated == ("data", "student")
    contract = read_contract(published / "student")
    assert contract.origin and contract.origin.distilled and contract.origin.rationales > 0
    assert contract.licences["data"] == "CC-BY-4.0"
    assert "`CC-BY-4.0`" in (published / "data/README.md").read_text()
    card = (published / "README.md").read_text()
    assert card.startswith("---\nlicense: Apache-2.0") and "no claim of compliance" in card and "Somebody" in card
    assert publication.chain[3].sha256 in card


def test_check_compares_the_chain_with_its_run_and_publishing_again_does_nothing(
    published: Path, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in published.rglob("*")}
    assert not aot("publish", run.root, published, "--check")
    assert not aot("publish", run.root, published, *STATED)
    printed = capsys.readouterr().out
    assert f"as they are in {run.root}" in printed and "lies there already, whole; nothing was done" in printed
    assert before == {path: path.stat().st_mtime_ns for path in published.rglob("*")}


def test_a_flipped_bit_is_noticed_wherever_it_is(copy: Path) -> None:
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    draws = random.Random(0)
    for path in [*files, *draws.choices(files, k=10)]:
        content = bytearray(path.read_bytes())
        content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
        whole = path.read_bytes()
        path.write_bytes(content)
        assert problems(copy), path
        path.write_bytes(whole)
    check_folder(copy)


def test_missing_additional_and_linked_files_are_named(copy: Path) -> None:
    (copy / "NOTICE.md").unlink()
    (copy / "data/more.txt").write_text("more")
    assert "NOTICE.md is missing" in problems(copy) and "data/more.txt is not listed" in problems(copy)
    (copy / "NOTICE.md").symlink_to("README.md")
    assert "NOTICE.md is no plain file" in problems(copy)


def test_a_manifest_that_was_made_to_fit_again_still_tells_a_broken_chain(copy: Path) -> None:
    publication = read_manifest(copy)
    other = publication.chain[1].model_copy(update={"files": publication.chain[0].files})
    broken = publication.model_copy(update={"chain": (publication.chain[0], other, *publication.chain[2:])})
    from aot.pipeline.publication.chain import write_manifest

    write_manifest(copy, broken)
    assert "the link traces of the chain does not follow" in problems(copy)
    write_manifest(copy, publication.model_copy(update={"chain": publication.chain[:-1]}))
    assert "the chain has not its links" in problems(copy)


def test_a_chain_is_another_one_where_an_earlier_file_is() -> None:
    def card(of: str) -> str:
        questions = ChainFile(place="run", name="questions.jsonl", size=1, sha256=of)
        return chained([("questions", [questions]), ("card", [])])[-1].sha256

    assert card("0" * 64) == card("0" * 64) != card("1" * 64)


def test_another_run_is_not_where_a_folder_comes_from(published: Path, run: RunFolder, tmp_path: Path) -> None:
    twin = RunFolder(Path(shutil.copytree(run.root, tmp_path / "twin")))
    publish(twin.kept, twin.kept.read_text().replace("Answer", "answer"))
    with pytest.raises(AotError, match=r"was not published from .*the link lessons"):
        aot("publish", twin.root, published, "--check")


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        ((), r"--licence data=NAME --licence student=NAME, such as --licence data=CC-BY-4.0"),
        (("data=MIT", "student"), "'student' must be base=NAME"),
        (("data=MIT", "data=ISC"), "states data twice"),
        (("base=MIT", "data=MIT"), "the files of the base say apache-2.0"),
        (("data=unknown",), "must be base=NAME"),
        (("data=<b>",), "must be base=NAME"),
        (("teacher=MIT",), "must be base=NAME"),
    ],
)
def test_a_licence_that_is_not_known_has_to_be_stated(statements: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        settled({"base": "apache-2.0", "data": "unknown", "student": "unknown"}, statements)


def test_what_files_say_needs_no_statement_and_the_licence_of_the_student_may_be_chosen() -> None:
    files = {"base": "apache-2.0", "data": "Apache-2.0", "student": "other"}
    assert settled(files, ["student=my-own"]) == (
        {"base": "Apache-2.0", "data": "Apache-2.0", "student": "my-own"}, ("student",),
    )  # fmt: skip


def test_nothing_is_published_where_something_is_wrong(run: RunFolder, published: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    full = tmp_path / "full"
    publish(full / "mine.txt", "mine")
    untrained = Path(shutil.copytree(run.root, tmp_path / "untrained"))
    shutil.rmtree(untrained / "student")
    for arguments, words in (
        ((run.root, out), "nothing says under which licence the data and the student"),
        ((run.root, full, *STATED), "full is not empty; give a new folder"),
        ((run.root, run.root / "out", *STATED), "lies in the run folder"),
        ((untrained, out, *STATED), "has no trained student yet"),
        ((tmp_path / "nowhere", out), "is it a run folder"),
        ((published, out), "is it a run folder"),
        ((run.root, published, "--licence", "data=MIT", "--licence", "student=MIT"), "under other licences"),
        ((run.root,), "takes RUN OUT"),
        ((published / "student", "--check"), "is nothing that was published"),
        ((tmp_path / "nowhere", "--check"), "is nothing that was published"),
    ):
        with pytest.raises(AotError, match=words):
            aot("publish", *arguments)
    assert not out.exists() and sorted(path.name for path in full.iterdir()) == ["mine.txt"]


def test_hostile_words_stay_words_in_every_paper(published: Path, run: RunFolder, tmp_path: Path) -> None:
    data = load_run(run, load_saved(run.config))
    contract = read_contract(published / "student")
    origin = StudentOrigin(distilled=True, teacher=HOSTILE, data=HOSTILE, questions=1, rationales=1)
    fields = {"name": HOSTILE, "base": HOSTILE, "kinds": (HOSTILE,), "limits": (HOSTILE,), "origin": origin}
    strange = contract.model_copy(update=fields)
    provenance = {**read_run_json(run), "versions": {HOSTILE: HOSTILE}}
    root = RunFolder(tmp_path / HOSTILE.replace("/", "").replace("\n", " "))
    facts = Facts(
        replace(data, run=root, provenance=provenance), strange, read_manifest(published).licences, (), HOSTILE, "2026"
    )
    entries, chain = list(folder_entries(published)), read_manifest(published).chain
    papers = [notice(facts), model_card(facts, chain)]
    machines = [bill_of_materials(facts, entries, chain), croissant_of(facts, published, entries, chain)]
    for text in [*papers, *map(json_text, machines)]:
        assert "<img" not in text and "</script" not in text and "<!--" not in text
        assert "\u202e" not in text and "\x1b" not in text
    for text in papers:
        assert "[c](javascript" not in text and "\n# a" not in text
    assert all(json.loads(json_text(one)) == one for one in machines)


def test_official_validators_find_no_error(published: Path) -> None:
    pytest.importorskip("cyclonedx")
    pytest.importorskip("mlcroissant")
    from aot.pipeline.publication.validators import validated

    assert [finding.errors for finding in validated(published)] == [(), ()]
