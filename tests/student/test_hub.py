"""What `aot prefetch` does with a hub: what it fetches, checks and keeps, and what it tells where that fails."""

import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Hub, serving

from aot.config import HfSection, RunConfig, load_config
from aot.errors import AotError, GuardStop, RunError, SourceError
from aot.pipeline.data.prefetch import fetch_news
from aot.student.hub import read_lock

pytest.importorskip("huggingface_hub")
ROOT = Path(__file__).parents[2]
TINY = ROOT / "aot" / "student" / "tiny" / "text"
FIRST, SECOND = "a" * 40, "b" * 40
MODEL, ROWS = "models/someone/small", "datasets/someone/sums"
FOREIGN = {
    "pytorch_model.bin": b"pickle",
    "modeling.py": b"code",
    "consolidated.safetensors": b"twice",
    "onnx/m.json": b"{}",
}


@pytest.fixture(scope="module")
def served() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def hub(served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub as it was at the beginning, and a cache of its own."""
    for one in (served.repos, served.branches, served.errors, served.cut_at, served.altered, served.requests):
        one.clear()
    files = {path.name: path.read_bytes() for path in TINY.iterdir() if path.is_file()}
    served.add(MODEL, {**files, **FOREIGN, "README.md": b"---\nlicense: mit\n---\n"}, commit=FIRST)
    lines = b"".join(b'{"question": "How much is %d and 2?", "answer": %d}\n' % (n, n + 2) for n in range(30))
    served.add(ROWS, {"data/train.jsonl": lines, "loader.py": b"code", "x.pkl": b"pickle"}, commit=SECOND)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return served


def config_of(folder: Path, *, revision: str = "main", name: str = "someone/small", data: str = "") -> RunConfig:
    path = folder / "run.yaml"
    data = data or "{dataset: toy_math}"
    planner = "given" if "hf" in data else "procedural"
    path.write_text(
        f"data: {data}\nteacher: {{planner: {planner}}}\ntrain: {{arms: [{{name: a, order: pre}}]}}\n"
        f"student: {{base: {folder}/small, hub: {{name: {name}, revision: {revision}}}}}\n"
    )
    return load_config(path)


def told(config: RunConfig, hub: Hub, **options: bool) -> str:
    return "\n".join(news.line for news in fetch_news(config, endpoint=hub.endpoint, **options))


def test_a_model_is_fetched_whole_without_pickles_and_code_and_a_second_call_needs_no_hub(
    hub: Hub, tmp_path: Path
) -> None:
    config = config_of(tmp_path)
    lines = told(config, hub)
    assert f"someone/small at {FIRST}" in lines and f"main is {FIRST} now; write that as its revision" in lines
    there = {path.name for path in (tmp_path / "small").iterdir() if path.is_file()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= there
    assert not there & FOREIGN.keys() and not (tmp_path / "small" / "onnx").exists()
    assert (tmp_path / "small" / "model.safetensors").read_bytes() == (TINY / "model.safetensors").read_bytes()
    asked = len(hub.requests)
    assert "whole:" in told(config, hub) and len(hub.requests) == asked
    from aot.student.model.base import resolve_base

    assert resolve_base(config.student.base) == str(tmp_path / "small")


def test_a_dry_run_tells_sizes_and_fetches_nothing(hub: Hub, tmp_path: Path) -> None:
    lines = told(config_of(tmp_path), hub, dry_run=True)
    assert "MB of it to be fetched into" in lines and not (tmp_path / "small").exists()


def test_a_branch_that_moved_on_means_the_commit_that_was_fetched(hub: Hub, tmp_path: Path) -> None:
    config = config_of(tmp_path)
    told(config, hub)
    hub.add(MODEL, {"model.safetensors": b"newer", "config.json": b"{}"}, commit=SECOND)
    (tmp_path / "small" / "config.json").write_text("altered")
    assert "that is fetched again" in told(config, hub)
    assert (tmp_path / "small" / "config.json").read_bytes() == (TINY / "config.json").read_bytes()
    lock = read_lock(tmp_path / "small")
    assert lock and lock.commit == FIRST
    assert "whole" in told(config_of(tmp_path, revision=FIRST), hub)
    with pytest.raises(SourceError, match=f"holds someone/small at {FIRST}, and the config wants {SECOND}"):
        told(config_of(tmp_path, revision=SECOND), hub)


def test_a_download_that_broke_off_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    weights = bytes(range(256)) * 100_000  # more than the client takes at once
    hub.add("models/someone/large", {"model.safetensors": weights, "config.json": b"{}"}, commit=FIRST)
    hub.cut_at["model.safetensors"] = 20_000_000
    config = config_of(tmp_path, name="someone/large")
    try:
        told(config, hub)  # the client may go on by itself
    except SourceError:
        told(config, hub)
    assert (tmp_path / "small" / "model.safetensors").read_bytes() == weights
    ranges = [wanted for method, path, wanted in hub.requests if path.endswith("model.safetensors") and method == "GET"]
    assert len(ranges) > 1 and ranges[-1].startswith("bytes=")


def test_a_file_that_came_out_damaged_is_deleted_and_told_and_comes_whole_the_next_time(
    hub: Hub, tmp_path: Path
) -> None:
    hub.altered |= {"model.safetensors", "config.json"}
    config = config_of(tmp_path, revision=FIRST)
    with pytest.raises(SourceError, match=r"config\.json, model\.safetensors of someone/small came out damaged"):
        told(config, hub)
    assert not (tmp_path / "small" / "model.safetensors").exists()
    hub.altered.clear()
    assert "compared with their hashes" in told(config, hub)


def test_a_data_set_is_fetched_into_the_cache_and_read_there_without_the_hub(hub: Hub, tmp_path: Path) -> None:
    from text_cot.datasets.hf import read_hf

    section = HfSection(path="someone/sums", revision="main")
    with pytest.raises(SourceError, match="has not been fetched"):
        read_hf(section, seed=0, limit=None)
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "own.txt").write_text("mine")
    config = config_of(tmp_path, data="{dataset: hf, hf: {path: someone/sums, revision: main}}")
    lines = told(config, hub)
    assert "was not fetched by this command; it is taken as it is" in lines and f"main is {SECOND} now" in lines
    asked = len(hub.requests)
    assert not any(path.endswith((".py", ".pkl")) for _, path, _ in hub.requests)
    for revision in ("main", SECOND):
        source = read_hf(HfSection(path="someone/sums", revision=revision), seed=0, limit=None)
        assert len(source.questions) == 30
    hub.add(ROWS, {}, commit=FIRST)  # the branch moves, and the run stays
    assert SECOND in told(config, hub) and len(hub.requests) >= asked


@pytest.mark.parametrize(
    ("code", "name", "revision", "words"),
    [
        ("", "someone/nothing", "main", "the hub has no 'someone/nothing'"),
        ("", "someone/small", "v9", "has no revision 'v9'"),
        ("GatedRepo", "someone/small", "main", "is given to those only who accepted its terms"),
    ],
)
def test_what_a_hub_does_not_give_is_told_in_one_sentence(
    hub: Hub, tmp_path: Path, code: str, name: str, revision: str, words: str
) -> None:
    if code:
        hub.errors[MODEL] = code
    with pytest.raises(SourceError, match=words) as error:
        told(config_of(tmp_path, name=name, revision=revision), hub)
    assert "\n" not in str(error.value)


def test_pickled_weights_alone_and_a_disk_that_is_too_small_stop_before_the_first_byte(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**30, 0, 2**30))
    with pytest.raises(GuardStop, match=r"no_space: 0\.00 GB are to be fetched"):
        told(config_of(tmp_path), hub)
    hub.add(MODEL, {"pytorch_model.bin": b"pickle", "config.json": b"{}"}, commit=SECOND)
    with pytest.raises(SourceError, match="has no safetensors, and other weights are never read"):
        told(config_of(tmp_path), hub)
    assert not (tmp_path / "small").exists()


def test_a_folder_of_another_model_and_a_file_are_never_written_into(hub: Hub, tmp_path: Path) -> None:
    told(config_of(tmp_path), hub)
    hub.add("models/someone/other", hub.repos[MODEL][FIRST], commit=FIRST)
    with pytest.raises(RunError, match="holds someone/small, not someone/other"):
        told(config_of(tmp_path, name="someone/other"), hub)
    shutil.rmtree(tmp_path / "small")
    (tmp_path / "small").write_text("mine")
    with pytest.raises(RunError, match="is a file"):
        told(config_of(tmp_path), hub)


def test_a_hub_that_nobody_answers_for_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(tmp_path)
    with pytest.raises(SourceError, match=r"cannot be fetched: .*is there a network") as error:
        list(fetch_news(config, endpoint="http://127.0.0.1:9"))
    assert "\n" not in str(error.value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE is set"):
        list(fetch_news(config))


def test_a_run_whose_base_was_not_fetched_says_how_to(tmp_path: Path) -> None:
    from aot.files.run_folder import RunFolder
    from aot.pipeline.commands.inputs import look_at_student

    with pytest.raises(AotError, match=r"is not there; `aot prefetch CONFIG` fetches someone/small"):
        look_at_student(config_of(tmp_path), RunFolder(tmp_path / "run"))
