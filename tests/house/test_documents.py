"""README, AGENTS, CONTRIBUTING and docs/: their blocks run as printed or say why not, their links lead somewhere."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from aot.cli import app
from aot.config import parse_config
from aot.errors import AotError
from aot.pipeline.printed import schema_of

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "AGENTS.md", ROOT / "CONTRIBUTING.md", *DOCS]
MARK = re.compile(r"<!-- (not run|run by)[: ] ?(.+) -->")
TINY = {
    "configs/video/toy_kitchen.yaml": """
data: {dataset: toy_kitchen, toy: {train_clips: 6, test_clips: 2, test_ood_clips: 2}}
filter: {min_kept: 1}
train: {max_steps: 1, questions_per_step: 4, questions_per_device: 4}
evaluate: {bootstrap_samples: 100}
""",
    "configs/text/tiny_math.yaml": """
data: {dataset: toy_math, math: {train: 24, test: 6, test_ood: 2}}
teacher: {planner: procedural}
student: {base: tiny-text, max_tokens: 512, max_answer_tokens: 12, max_rationale_tokens: 48}
train: {max_steps: 1, questions_per_step: 4, questions_per_device: 4, arms: [{name: pre, order: pre}]}
evaluate: {bootstrap_samples: 100, splits: [test]}
""",
}
"""What the configs of the two main jobs say here, so that the commands of the pages take seconds and not minutes."""
INSTEAD = {
    "bash scripts/distill_video.sh": "aot run configs/video/toy_kitchen.yaml",
    "bash scripts/distill_text.sh": "aot run configs/text/tiny_math.yaml",
    ".venv/bin/aot": "aot",
    "--count 300": "--count 1",
    "aot faithfulness runs/toy_kitchen ": "aot faithfulness runs/toy_kitchen --count 1 ",
    "/my_videos.yaml": "/my_videos.yaml train.max_steps=1 student.max_rationale_tokens=24",
    "/my_problems.yaml": "/my_problems.yaml train.max_steps=1 student.max_rationale_tokens=24",
    '"OUT"': '"exports/kitchen"',
}
"""What a page says, and what is done here in its place: no environment is made, and little is asked."""
OF_A_FINISHED_RUN = ("ask", "compare", "data export", "export", "faithfulness", "frames", "predict", "probe")
"""Commands that are run once more with `--json`; what they print has to fit their schema (tests/test_printed.py)."""
REST = {
    "video": {"data": {"dataset": "toy_kitchen"}},
    "text": {
        "data": {"dataset": "gsm8k"},
        "teacher": {"planner": "given"},
        "student": {"base": "tiny-text"},
        "train": {"arms": [{"name": "pre", "order": "pre"}]},
    },
}
"""What a config of each kind has beside the part of it that a page shows."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    mark: str
    """`not run` or `run by`, or empty."""
    why: str

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> Iterator[Block]:
    """The fenced blocks of a page, with the comment before each."""
    lines = path.read_text(encoding="utf-8").splitlines()
    fences = [number for number, line in enumerate(lines) if line.lstrip().startswith("```")]
    assert len(fences) % 2 == 0, f"{path.name}: a block is never closed"
    for start, end in zip(fences[::2], fences[1::2], strict=True):
        above = start
        while above and lines[above - 1].startswith("<!--"):
            above -= 1
        marks = [match for line in lines[above:start] if (match := MARK.fullmatch(line))]
        mark, why = marks[0].groups() if marks else ("", "")
        language = lines[start].strip().removeprefix("```")
        yield Block(path.name, start + 1, language, "\n".join(lines[start + 1 : end]) + "\n", mark, why)


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SETTINGS = [block for block in BLOCKS if block.language == "yaml" and not block.mark]
ROWS = [block for block in BLOCKS if block.language == "json" and not block.mark]
DONE = [block for block in BLOCKS if block.language in ("bash", "python") and not block.mark]


def test_every_block_runs_or_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    known = {block.name for block in (*SETTINGS, *ROWS, *DONE)}
    silent = [block.name for block in BLOCKS if block.name not in known and not (block.mark and block.why)]
    assert not silent, "give a language (bash, python, yaml, json), or a comment <!-- not run: WHY --> before the block"
    elsewhere = [block for block in BLOCKS if block.mark == "run by"]
    for block in elsewhere:
        assert block.page in (ROOT / block.why).read_text(), f"{block.name}: {block.why} does not run {block.page}"
    kept_back = [block for block in BLOCKS if block.mark == "not run"]
    with capsys.disabled():
        counts = f"{len(known)} run here, {len(elsewhere)} in other tests, {len(kept_back)} not"
        print(f"\n{len(BLOCKS)} blocks of {len(PAGES)} pages: {counts}:")
        print("\n".join(f"  {block.name}: {block.why}" for block in kept_back))


@pytest.mark.parametrize("block", SETTINGS, ids=lambda block: block.name)
def test_settings_on_a_page_are_those_of_a_run(block: Block) -> None:
    shown = yaml.safe_load(block.text)
    problems = []
    for rest in REST.values():
        try:
            parse_config(_over(rest, shown), source=block.name)
            return
        except AotError as error:
            problems.append(str(error))
    raise AssertionError("\n".join(problems))


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """One config over another, section by section; of another data set nothing is left."""
    if "dataset" in above and above["dataset"] != below.get("dataset"):
        return above
    both = {key: _over(below[key], above[key]) for key in below.keys() & above.keys() if isinstance(below[key], dict)}
    return {**below, **above, **both}


@pytest.mark.parametrize("block", ROWS, ids=lambda block: block.name)
def test_json_on_a_page_is_json(block: Block) -> None:
    assert yaml.safe_load(block.text)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone in which the main jobs are tiny."""
    root = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "configs", root / "configs")
    for name in ("scripts", "docs", "examples"):
        (root / name).symlink_to(ROOT / name)
    for name, text in TINY.items():
        (root / name).write_text(text)
    return root


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_commands_and_programs_run_as_printed(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", "")))))
    names: dict[str, dict[str, Any]] = {}
    ran: Counter[str] = Counter()
    before: set[tuple[str, ...]] = set()
    for block in DONE:
        if block.page == "python.md" and not (clone / "clip.mp4").exists():
            _bring_clips(clone)
        text = block.text
        for printed, done in INSTEAD.items():
            text = text.replace(printed, done)
        if block.language == "python":
            exec(compile(text, block.name, "exec"), names.setdefault(block.page, {}))
        else:
            for line in text.splitlines():
                _run(line, block.name, before)
        ran[block.page] += 1
    assert ran["README.md"] >= 2 and ran["commands.md"] >= 4


def _bring_clips(clone: Path) -> None:
    """What docs/python.md takes to be in the folder."""
    run = clone / "runs/toy_kitchen"
    shutil.copy(run / "clips/test_0000.mp4", clone / "clip.mp4")
    shutil.copy(run / "questions.jsonl", clone)
    (clone / "clips").symlink_to(run / "clips")


def _run(line: str, name: str, before: set[tuple[str, ...]]) -> None:
    """One line of a block, as a shell would; what another page says too was done `before`."""
    words = shlex.split(line, comments=True)
    if not words or words == ["source", ".venv/bin/activate"] or tuple(words) in before:
        return
    before.add(tuple(words))
    if words[0] == "aot":
        code, told = _told(words[1:])
        assert not code, f"{name}: `{line}` ended with exit code {code}"
        verb = " ".join(words[1 : 3 if words[1] == "data" else 2])
        kind = (verb, *(word for word in words if word.startswith("--")))  # each kind of output once is enough
        if verb in OF_A_FINISHED_RUN and "--json" not in words and kind not in before:
            before.add(kind)
            words, (code, told) = [*words, "--json"], _told([*words[1:], "--json"])
        if "--json" in words:
            jsonschema_rs.validate(schema_of(verb), json.loads(told))
    elif words[0] == "python":
        subprocess.run([sys.executable, *words[1:]], check=True, stdout=subprocess.DEVNULL)
    else:
        raise AssertionError(f"{name}: nothing here runs `{line}`; give the block a comment <!-- not run: WHY -->")


def _told(words: list[str]) -> tuple[int | None, str]:
    """The exit code of a command of ours, and what it prints."""
    with redirect_stdout(io.StringIO()) as told:
        code = app(words, standalone_mode=False)
    return code, told.getvalue()


def test_every_link_leads_somewhere() -> None:
    broken = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            if path.startswith("https://"):
                continue
            there = (page.parent / path).resolve() if path else page
            if not there.exists() or (anchor and anchor not in _anchors(there)):
                broken.append(f"{page.name}: {target}")
    assert not broken


def _anchors(page: Path) -> set[str]:
    """What headings are linked by."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_page_and_picture_is_in_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text() + (ROOT / "README.md").read_text()
    linked = {Path(target.partition("#")[0]).name for target in re.findall(r"\]\(([^)\s]+)\)", index)}
    shown = {page.name for page in DOCS} | {picture.name for picture in (ROOT / "docs/pictures").iterdir()}
    assert not shown - linked - {"index.md"}


def test_pictures_are_small_and_bring_all_they_need() -> None:
    for picture in (ROOT / "docs/pictures").glob("*.svg"):
        text = picture.read_text(encoding="utf-8")
        assert len(text) < 150_000 and "<script" not in text, picture.name
        assert all(target.startswith("data:image/") for target in re.findall(r'href="([^"]+)', text)), picture.name


def test_the_readme_is_short() -> None:
    text = re.sub(r"\]\([^)]*\)|^```.*?^```|^\|.*$|<!--.*-->", " ", (ROOT / "README.md").read_text(), flags=re.M | re.S)
    assert len(text.split()) < 600


def test_the_page_of_settings_is_up_to_date() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "scripts/write_settings.py", "--check"], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
