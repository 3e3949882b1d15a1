"""Prints how the code is built, beside what is aimed at: lines, folders, functions, names, comments, kinds of run.

    python scripts/house.py             # every figure with its aim and its limit; exit code 1 if one is over its limit
    python scripts/house.py --places door_questions     # where a figure counts what it counts
    python scripts/house.py --frames    # runs the tiny video job: own frames to a tool call and to a training step
    python scripts/house.py --tighten   # lowers the limits to what is reached

The limits in tests/house/limits.json only ever get tighter: what is not yet as it should be may not get worse.
"""

import argparse
import ast
import io
import json
import re
import statistics
import subprocess
import sys
import tempfile
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMITS = ROOT / "tests" / "house" / "limits.json"
PACKAGES = ("aot", "video_data", "text_cot")
HARD_ROOMS = ("aot/student/", "aot/evaluation/", "video_data/")
"""Where a reader needs the reason more often than elsewhere."""
DOOR_TABLE = "aot/pipeline/doors.py"
RECORD_FILES = (
    "aot/records.py", "aot/run_records.py", "aot/served_records.py", "aot/answer_records.py", "aot/review_records.py",
)  # fmt: skip
MESSAGES_FILE = "aot/chat/messages.py"
"""What is said to a chat model and what it replies: the language of that room, and no file of a run."""
NAMES_FILES = (
    "aot/files/run_folder.py", "aot/student/model/folders.py", "aot/serving/lerobot/columns.py",
    "aot/pipeline/publication/chain.py",
)  # fmt: skip
"""Names in our run folders, in model folders and data sets of strangers, and in folders that are published."""
POOR_NAMES = frozenset(["told", "found", "known", "asked", "own", "rest", "met", "kit", "looking", "choosing", "draw"])
WHOLE_CONFIGS = frozenset({"RunConfig", "AnyRun", "VideoRun", "TextRun"})
DOOR_WORDS = frozenset({"door", "is_text", "is_agent_trace"})
_FILE_NAME = re.compile(r"[\w.*/-]+\.jsonl?")
_MACHINE_COMMENT = re.compile(r"#\s*(noqa|type:|fmt:|pragma|mypy|ruff|!)")


@dataclass(frozen=True)
class Figure:
    """One count, what is aimed at, and where it was counted."""

    value: float
    aim: float
    at_least: bool = False
    """Whether more is better."""
    places: tuple[str, ...] = field(default=(), repr=False)
    may_grow: bool = False
    """Whether new features may make it worse, so that it has no limit."""

    def worse_than(self, limit: float) -> bool:
        """Whether the value is on the wrong side of `limit`."""
        return self.value < limit if self.at_least else self.value > limit

    @property
    def reached(self) -> bool:
        """Whether the aim is reached."""
        return not self.worse_than(self.aim)


@cache
def sources() -> dict[str, str]:
    """Path, relative to the repository, to text: every Python file of the product."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


@cache
def trees() -> dict[str, ast.Module]:
    """Path to syntax tree of every product file."""
    return {path: ast.parse(text) for path, text in sources().items()}


def figures() -> dict[str, Figure]:
    """Every figure by name; reads files only."""
    lines = {path: text.count("\n") for path, text in sources().items()}
    folders = Counter(path.rpartition("/")[0] for path in lines)
    folder_lines: Counter[str] = Counter()
    for path, count in lines.items():
        folder_lines[path.rpartition("/")[0]] += count
    functions = {f"{path}:{node.lineno} {node.name}": _length(node) for path, node in _functions()}
    files = {path: count for path, count in lines.items() if not path.endswith("__init__.py")}
    product = sum(lines.values())
    test_lines = sum(p.read_text(encoding="utf-8").count("\n") for p in (ROOT / "tests").rglob("*.py"))
    return {
        "product_lines": Figure(product, 31_000, may_grow=True),
        "files_in_a_folder": _largest(folders, 16),
        "lines_in_a_folder": _largest(folder_lines, 2_500),
        "median_file_lines": Figure(statistics.median(files.values()), 120, at_least=True),
        "longest_file": _largest(files, 500),
        "longest_function": _largest(functions, 80),
        "test_share": Figure(round(test_lines / product, 3), 0.45, at_least=True),
        "reasons_per_100_lines": _reasons(),
        "door_questions": _places(_door_questions(), 0),
        "poor_names": _places(_poor_names(), 0),
        "file_names_spelled_elsewhere": _places(_file_names(), 0),
        "records_elsewhere": _places(_records(), 0),
        "functions_of_the_whole_config": _places(_config_functions(), 0),
        "widest_door": _widest_door(),
    }


def _largest(counts: Counter[str] | dict[str, int], aim: int) -> Figure:
    over = sorted((name for name in counts if counts[name] > aim), key=lambda name: -counts[name])
    return Figure(max(counts.values()), aim, places=tuple(f"{name}: {counts[name]}" for name in over))


def _places(places: Iterator[str], aim: int) -> Figure:
    every = tuple(places)
    return Figure(len(every), aim, places=every)


def _functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _reasons() -> Figure:
    """Comments for people for each 100 lines of code, in the rooms where they are needed most."""
    comments = code = 0
    for path, text in sources().items():
        if path.startswith(HARD_ROOMS):
            tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
            marks = [one.string for one in tokens if one.type == tokenize.COMMENT]
            comments += sum(not _MACHINE_COMMENT.match(mark) for mark in marks)
            code += (
                len(text.splitlines()) - _docstring_lines(trees()[path]) - sum(not x.strip() for x in text.splitlines())
            )
    return Figure(round(100 * comments / code, 2), 3, at_least=True)


def _docstring_lines(tree: ast.Module) -> int:
    texts = [
        node.body[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
    ]
    return sum((text.end_lineno or text.lineno) - text.lineno + 1 for text in texts)


def _door_questions() -> Iterator[str]:
    """Places that ask for the kind of a run, outside the table of doors."""
    for path, tree in trees().items():
        if path == DOOR_TABLE:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute | ast.Name):
                name = node.attr if isinstance(node, ast.Attribute) else node.id
                if name in DOOR_WORDS:
                    yield f"{path}:{node.lineno} {name}"


def _poor_names() -> Iterator[str]:
    """Variables, functions and files whose name does not say what they hold."""
    for path, tree in trees().items():
        if Path(path).stem in POOR_NAMES:
            yield path
        for node in ast.walk(tree):
            name = ""
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                name = node.id
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                name = node.name
            elif isinstance(node, ast.arg):
                name = node.arg
            if name.strip("_") in POOR_NAMES:
                yield f"{path}:{node.lineno} {name}"  # type: ignore[attr-defined]


def _file_names() -> Iterator[str]:
    """Names of .json and .jsonl files that are spelled outside the files that may know them.

    Defaults of settings are names that users choose, and what lies beside a module is read by that module alone.
    """
    for path, tree in trees().items():
        if path in NAMES_FILES or not path.startswith("aot/") or path.startswith("aot/config/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _FILE_NAME.fullmatch(node.value):
                beside = (ROOT / path).parent / node.value
                if not beside.is_file():
                    yield f"{path}:{node.lineno} {node.value}"


def _records() -> Iterator[str]:
    """Records that another room imports from outside the files of records; those of one room may stay with its code."""
    imports = _imports()
    for path, tree in trees().items():
        if path in (*RECORD_FILES, MESSAGES_FILE):
            continue
        module = path.removesuffix(".py").replace("/", ".")
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == "Record" for b in node.bases):
                homes = {f"{module}.{node.name}", f"{module.rpartition('.')[0]}.{node.name}"}
                if any(name in homes and room != _room(path) for room, name in imports):
                    yield f"{path}:{node.lineno} {node.name}"


def _imports() -> set[tuple[str, str]]:
    """The room that imports, and the full name of what it imports."""
    return {
        (_room(path), f"{node.module}.{name.name}")
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }


def _widest_door() -> Figure:
    """The names that other rooms import from the room that offers most."""
    homes = {name: _room(name.replace(".", "/")) for _, name in _imports()}
    offered = {name for room, name in _imports() if homes[name] != room and (ROOT / homes[name]).is_dir()}
    return _largest(Counter(homes[name] for name in offered if name.startswith(PACKAGES)), 8)


def _room(path: str) -> str:
    """The folder of aot, or the other package, that a file belongs to."""
    return "/".join(path.split("/")[: 2 if path.startswith("aot/") else 1])


def _config_functions() -> Iterator[str]:
    """Functions outside the stages that take the whole config of a run."""
    for path, node in _functions():
        if path.startswith(("aot/pipeline/", "aot/config/", "aot/cli/")):
            continue
        for arg in (*node.args.args, *node.args.kwonlyargs):
            if isinstance(arg.annotation, ast.Name) and arg.annotation.id in WHOLE_CONFIGS:
                yield f"{path}:{node.lineno} {node.name}"


def limits() -> dict[str, float]:
    """What each figure may be at most, or at least where more is better."""
    return dict(json.loads(LIMITS.read_text(encoding="utf-8")))


_FRAMES = """
import sys, traceback
from aot.cli import main
from aot.student.train import arm
from aot.teacher.tools.registry import TOOLS
counts = {}
def watched(function, name):
    def call(*args, **kwargs):
        stack = [one.filename for one in traceback.extract_stack()[:-1] if "site-packages" not in one.filename]
        own = [one for one in stack if any(f"/{room}/" in one for room in ("aot", "video_data", "text_cot"))]
        counts[name] = min(len(own) + 1, counts.get(name, 99))
        return function(*args, **kwargs)
    return call
for tool in TOOLS.values():
    object.__setattr__(tool, "run", watched(tool.run, "a tool"))
arm.TwoTermTrainer.train = watched(arm.TwoTermTrainer.train, "the trainer")
sys.argv = ["aot", "run", sys.argv[1], f"run.dir={sys.argv[2]}", "teacher.workers=1"]
try:
    main()
finally:
    for name, count in counts.items():
        print(f"FRAMES own frames from the command to {name}, itself included: {count}")
"""


def print_frames() -> None:
    """Run the tiny video job with its tools and trainer watched, and print the way to each."""
    config = ROOT / "configs" / "video" / "toy_kitchen_tiny.yaml"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _FRAMES, str(config), f"{folder}/run"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    marked = [line.removeprefix("FRAMES ") for line in done.stdout.splitlines() if line.startswith("FRAMES ")]
    print("\n".join(marked) or f"no frames were counted:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def main() -> int:
    """Print the figures; 1 if one of them is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", metavar="FIGURE", help="print where this figure was counted")
    parser.add_argument("--frames", action="store_true", help="run the tiny video job and count own frames")
    parser.add_argument("--tighten", action="store_true", help="lower the limits to what is reached")
    options = parser.parse_args()
    if options.frames:
        print_frames()
        return 0
    every = figures()
    if options.places:
        if options.places not in every:
            parser.error(f"no figure {options.places!r}; there are {', '.join(every)}")
        print("\n".join(every[options.places].places) or "none")
        return 0
    allowed = limits() if LIMITS.exists() else {}
    print(f"{'figure':32s} {'today':>9s} {'aim':>12s} {'limit':>9s}")
    for name, figure in every.items():
        sign = "at least" if figure.at_least else "at most"
        mark = "" if figure.reached else "  not yet"
        print(f"{name:32s} {figure.value:9,g} {sign:>8s} {figure.aim:,g} {allowed.get(name, figure.value):9,g}{mark}")
    worse = [name for name, figure in every.items() if name in allowed and figure.worse_than(allowed[name])]
    if options.tighten:
        kept = {
            name: figure.value if name not in allowed or not figure.worse_than(allowed[name]) else allowed[name]
            for name, figure in every.items()
            if not figure.may_grow
        }
        LIMITS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    elif worse:
        print(f"worse than before: {', '.join(worse)}; python scripts/house.py --places FIGURE says where")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
