"""What a finished run pins: every file of its folder as rows of short hashes, and how two such sets differ.

A file of the run folder is either an artifact here or left out by name below, so that a new one cannot escape. Times,
paths, revisions and digests of settings are left out by name too. It knows no model and starts no run.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from safetensors.numpy import load_file

from aot.errors import RunError
from aot.files.run_folder import RunFolder, read_run_json, whole_lines
from aot.records import Record

Rows = list[tuple[str, str]]
"""Ids with their text, in the order of the file; an id may come twice."""

LEFT_OUT = {
    "config.yaml": "settings; what they change shows in the results",
    "run.json": "times and places; versions and pins are compared apart",
    "log.txt": "times",
    "*DONE": "markers",
    "clips/*": "synthetic videos; the index of the frames has a checksum of each",
    "frames/shard-*": "pixels; the index of the frames has a checksum of each",
    "vision_features/*": "of frozen towers; the weights that were trained on them are artifacts",
    "tool_cache/*": "in the order of the workers; the traces hold the results",
    "reviews/*": "what people said of traces and answers",
    "pending/*": "requests that wait for a person",
    "student/*/checkpoints/*": "steps on the way to the adapter",
    "*.seal": "hashes of files that are artifacts themselves",
    "student/*/manifest.json": "hashes of files that are artifacts themselves",
}
"""Files (fnmatch, where `*` crosses folders) that pin nothing, each with the reason."""
PARTS = ("traces", "attempts", "faults")
"""Folders with a part for each worker; together one artifact, whose order means nothing."""
FIELDS_LEFT_OUT = {
    "*": ("config_digest", "latency_s", "peft_version"),
    "teacher.json": ("seconds_per_verified_trace", "tool_cost.mean_ms"),
    **dict.fromkeys(
        ("traces", "attempts", "kept.jsonl", "dropped.jsonl"),
        ("steps.duration_s", "usage.seconds", "usage.cached_calls"),
    ),
}
"""By artifact, the fields of a row that hold times, versions or digests of settings; a dot leads into lists too."""
PROBABILITIES = ("choice_probs", "thought_probs")
"""Fields that make an artifact of their own, so that other last digits are told from other words."""
MASKED = {
    "settings": r'<h2 id="settings">.*',
    "config": r"<dt>config</dt><dd[^>]*>.*?</dd>",
    "revision": r"<dt>revision</dt><dd[^>]*>.*?</dd>",
    "hardware": r"<dt>hardware</dt><dd>.*?</dd>",
    "started": r"<dt>started</dt><dd>.*?</dd>",
    "stage seconds": r'<p class="note">Time: .*?</p>',
    "teacher seconds": r"<dt>seconds per verified trace</dt><dd>.*?</dd>",
    "tool cost": r"<th[^>]*>mean ms</th>.*?</table>",
    "student times": r"<th[^>]*>mean time</th>.*?</table>",
    "call times": r'<span class="soft">(?:&lt;1|\d+) ms</span>',
    "training cost": r"- Cost of training: .*?\n",
    "looks": r"<style>.*?</style>",
    "card": r"Revision `[^`]*`, config `[^`]*`, made \S+",
}
"""What report and model card say of times, places and settings."""
NUMERIC = (
    "metrics.json", "report.html", "MODEL_CARD.md", "predictions/*", "student/*.safetensors", "student/*/metrics.jsonl",
    "student/adaptive/*", "student/self/*", "*: probabilities",
)  # fmt: skip
"""Artifacts that rest on a student's arithmetic, whose last digits another processor or library may change."""
SYMBOLIC = ("predictions/teacher-none.jsonl", "predictions/baselines-none.jsonl")
"""Those that NUMERIC would catch and that no student has touched."""
NOT_JUDGED = ("report.html", "MODEL_CARD.md", "*: probabilities")
"""Numeric artifacts without a tolerance: they repeat what others hold."""
NUMERIC_VERSIONS = ("torch", "transformers", "peft", "accelerate", "numpy")
RTOL = 1e-4
"""Of losses, gradient norms and norms of weights; other instruction sets of one machine differ by at most 2.3e-6."""
ACCURACY_ATOL = 0.05
SHARE = 0.05
"""Of the rows of predictions, and of lessons made from them, that may differ; measured: none."""
_MAX_NAMED = 5


class Artifact(Record):
    """One named result."""

    sha256: str
    """First 16 digits, over all rows in their order."""
    count: int
    """Rows of the file; those that share an id stand together below."""
    rows: dict[str, str]
    """Id to the first 6 digits of the hash of its rows; empty for the many rows of an arm, to keep the file small."""
    numbers: dict[str, float] = Field(default_factory=dict)
    """Values that are worth seeing, or are compared with a tolerance on another machine."""


class MadeWith(Record):
    """What may change the last digits of a number."""

    machine: str
    pins: dict[str, str]
    """Environment variables that choose the code paths of torch's libraries (tests/golden/pins.env)."""
    versions: dict[str, str]
    probes: dict[str, str]
    """Digests of a few operations of torch under the pins: no setting reaches the square root, which is approximate."""


class Golden(Record):
    """All artifacts of one run."""

    made_with: MadeWith
    artifacts: dict[str, Artifact] = Field(min_length=1)

    def digest(self) -> str:
        """16 hex digits over everything in it."""
        return _sha(json.dumps(self.model_dump(mode="json"), sort_keys=True))[:16]


class Comparison(Record):
    """How a run differs from its golden file."""

    why_tolerant: tuple[str, ...]
    """What is not as it was when the golden file was made; empty when numbers are compared exactly too."""
    exact: int
    within_tolerance: tuple[str, ...]
    not_judged: tuple[str, ...]
    problems: tuple[str, ...]
    versions: tuple[str, ...]
    """Packages of another version than when the golden file was made: where a difference may come from."""


def collect(root: Path, *, probes: dict[str, str]) -> Golden:
    """The artifacts of the finished run in `root`, which was made on a processor with these probes.

    Raises:
        RunError: it is no run folder, or not finished.
    """
    run = RunFolder(root)
    facts = read_run_json(run)
    if not run.done.exists():
        raise RunError(f"{root} is not finished (no {run.done.name}); run the same command again first")
    artifacts: dict[str, Artifact] = {}
    for name, paths in sorted(_artifact_paths(root).items()):
        artifacts |= _read(name, paths, root=root)
    machine = facts.get("hardware", {}).get("machine", "unknown")
    pins, versions = facts.get("arithmetic", {}), facts.get("versions", {})
    made_with = MadeWith(machine=machine, pins=pins, versions=versions, probes=probes)
    return Golden(made_with=made_with, artifacts=artifacts)


def _artifact_paths(root: Path) -> dict[str, list[Path]]:
    paths: dict[str, list[Path]] = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name = path.relative_to(root).as_posix()
        if not any(fnmatchcase(name, pattern) for pattern in LEFT_OUT):
            folder = name.split("/")[0]
            paths.setdefault(folder if folder in PARTS else name, []).append(path)
    return paths


def _read(name: str, paths: list[Path], *, root: Path) -> dict[str, Artifact]:
    """The artifact of that name, and the probabilities in it as another one."""
    if name.endswith(".safetensors"):
        return {name: _weights(paths[0])}
    if name.endswith((".html", ".md")):
        return {name: _artifact(_sections(_without_place(paths[0].read_text(encoding="utf-8"), root)))}
    if not name.endswith((".json", ".jsonl")) and name not in PARTS:
        return {name: _artifact([("file", hashlib.sha256(paths[0].read_bytes()).hexdigest())])}
    values = list(_values(name, paths))
    texts: Rows = []
    probabilities: Rows = []
    for key, value in values:
        fields = PROBABILITIES if isinstance(value, dict) else ()
        apart = {field: value.pop(field) for field in fields if field in value}
        if any(apart.values()):
            probabilities.append((key, _canonical(apart)))
        texts.append((key, _without_place(_canonical(value), root)))
    if name in PARTS:
        texts = sorted(set(texts))  # a killed writer may have left a row twice
    whole = _artifact(texts, _numbers(name, [value for _, value in values]))
    found = {name: whole.model_copy(update={"rows": {}}) if fnmatchcase(name, "student/*.jsonl") else whole}
    return found | ({f"{name}: probabilities": _artifact(probabilities)} if probabilities else {})


def _without_place(text: str, root: Path) -> str:
    """`text` with RUN for the run folder, whether the job was given all of its path or ran beside runs/."""
    return text.replace(str(root), "RUN").replace(f"runs/{root.name}", "RUN")


def _values(name: str, paths: list[Path]) -> Iterator[tuple[str, Any]]:
    """Ids and values of a JSON file or of JSON lines, less what FIELDS_LEFT_OUT names."""
    fields = [field for pattern, named in FIELDS_LEFT_OUT.items() if fnmatchcase(name, pattern) for field in named]
    if name.endswith(".json"):
        value = _without(json.loads(paths[0].read_text(encoding="utf-8")), fields)
        yield from value.items() if isinstance(value, dict) else ((_row_id(row), row) for row in value)
        return
    for path in paths:
        for line in whole_lines(path):
            row = _without(json.loads(line), fields)
            yield _row_id(row), row


def _row_id(row: dict[str, Any]) -> str:
    if "metric" in row:
        return f"{row['arm']} {row['mode']} {row['split']}"
    key = next((str(row[name]) for name in ("id", "question_id", "uri", "item", "step", "round") if name in row), "row")
    return f"{key}/{row['sample_index']}" if "sample_index" in row else key


def _without(value: Any, fields: Iterable[str]) -> Any:  # noqa: ANN401 - any JSON
    for field in fields:
        _drop(value, field.split("."))
    return value


def _drop(value: Any, path: list[str]) -> None:  # noqa: ANN401 - any JSON
    if isinstance(value, list):
        for item in value:
            _drop(item, path)
    elif isinstance(value, dict) and path[0] in value:
        if path[1:]:
            _drop(value[path[0]], path[1:])
        else:
            del value[path[0]]


def _canonical(value: Any) -> str:  # noqa: ANN401 - any JSON
    """JSON with sorted keys and ten digits for each float, because the last ones belong to the C library."""
    return json.dumps(_rounded(value), sort_keys=True)


def _rounded(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _numbers(name: str, rows: list[Any]) -> dict[str, float]:
    """Losses and gradient norms of each step of an arm, or accuracies over all kinds."""
    if name == "metrics.json":
        shown = [row for row in rows if (row["kind"], row["metric"]) == ("all", "accuracy")]
        return {_row_id(row): float(f"{row['value']:.7g}") for row in shown}
    if fnmatchcase(name, "student/*/metrics.jsonl"):
        keys = ("loss", "grad_norm")
        return {f"step {row['step']} {key}": float(f"{row[key]:.7g}") for row in rows for key in keys}
    return {}


def _weights(path: Path) -> Artifact:
    tensors = sorted(load_file(path).items())
    texts = [(name, f"{array.dtype} {array.shape} {_sha(array.tobytes())}") for name, array in tensors]
    norm = float(np.sqrt(sum(np.square(array.astype(np.float64)).sum() for _, array in tensors)))
    whole = _artifact(texts, {"norm": float(f"{norm:.7g}")})
    return whole.model_copy(update={"rows": {}})


def _sections(text: str) -> Rows:
    """A page cut at its headings and gallery panels, less what MASKED names."""
    for name, pattern in MASKED.items():
        text = re.sub(pattern, f"[{name}]", text, flags=re.DOTALL)
    parts = re.split(r'(?=<h2 id="|<article class="panel" id="|^## )', text, flags=re.MULTILINE)
    heads = (re.match(r'<\w+ [^>]*id="([^"]+)"|## (.+)', part) for part in parts)
    return [((head and (head[1] or head[2])) or "head", part) for head, part in zip(heads, parts, strict=True)]


def _artifact(texts: Rows, numbers: dict[str, float] | None = None) -> Artifact:
    together: dict[str, list[str]] = {}
    for key, text in texts:
        together.setdefault(key, []).append(text)
    return Artifact(
        sha256=_sha("\n".join(f"{key}\t{text}" for key, text in texts))[:16],
        count=len(texts),
        rows={key: _sha("\n".join(rows))[:6] for key, rows in together.items()},
        numbers=numbers or {},
    )


def _sha(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def compare(golden: Golden, now: Golden) -> Comparison:
    """How `now` differs: exactly where both were made alike, else with tolerances for what a student computed."""
    why = tuple(_why_tolerant(golden.made_with, now.made_with))
    exact, within, not_judged, problems = 0, [], [], []
    for name in sorted(golden.artifacts.keys() | now.artifacts.keys()):
        old, new = golden.artifacts.get(name), now.artifacts.get(name)
        if old is None or new is None:
            told = "missing" if new is None else "new; pin it with `make`, or leave it out in scripts/golden_results.py"
            problems.append(f"{name}: {told}")
        elif old.sha256 == new.sha256:
            exact += 1
        elif not why or not _matches(name, NUMERIC) or name in SYMBOLIC:
            problems.append(f"{name}: {difference(old, new)}")
        elif _matches(name, NOT_JUDGED) or not (old.rows or old.numbers):
            not_judged.append(name)
        elif _is_close(name, old, new):
            within.append(name)
        else:
            problems.append(f"{name}: beyond its tolerance: {difference(old, new)}")
    return Comparison(
        why_tolerant=why,
        exact=exact,
        within_tolerance=tuple(within),
        not_judged=tuple(not_judged),
        problems=tuple(problems),
        versions=tuple(_other_versions(golden.made_with.versions, now.made_with.versions)),
    )


def _other_versions(old: dict[str, str], new: dict[str, str]) -> list[str]:
    return [f"{name} {new[name]} (was {old[name]})" for name in old if name in new and old[name] != new[name]]


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _why_tolerant(old: MadeWith, new: MadeWith) -> Iterator[str]:
    pairs: list[tuple[str, str | None, str | None]] = [("machine", old.machine, new.machine)]
    pairs += [(name, value, new.pins.get(name)) for name, value in old.pins.items()]
    pairs += [(name, old.versions.get(name), new.versions.get(name)) for name in NUMERIC_VERSIONS]
    for name, here, there in pairs:
        if here != there:
            yield f"{name} is {there or 'not set'}, not {here}"
    others = [name for name, digest in old.probes.items() if new.probes.get(name) != digest]
    if others:
        yield f"this processor gives other digits for: {', '.join(others)}"


def _is_close(name: str, old: Artifact, new: Artifact) -> bool:
    if old.numbers:
        atol = ACCURACY_ATOL if name == "metrics.json" else 0.0
        rtol = 0.0 if name == "metrics.json" else RTOL
        return old.numbers.keys() == new.numbers.keys() and all(
            abs(new.numbers[key] - value) <= atol + rtol * abs(value) for key, value in old.numbers.items()
        )
    changed = sum(old.rows.get(key) != new.rows.get(key) for key in old.rows.keys() | new.rows.keys())
    return changed <= SHARE * len(old.rows)


def difference(old: Artifact, new: Artifact) -> str:
    """What changed between two artifacts of one name, with the first few ids and numbers."""
    changed = [key for key in old.rows if key in new.rows and old.rows[key] != new.rows[key]]
    gone = [key for key in old.rows if key not in new.rows]
    added = [key for key in new.rows if key not in old.rows]
    told = [f"{len(changed)} of {len(old.rows)} rows differ: {_named(changed)}"] if changed else []
    told += [f"{len(keys)} {word}: {_named(keys)}" for word, keys in (("gone", gone), ("new", added)) if keys]
    told += [f"{old.count} rows there, {new.count} now"] if old.count != new.count else []
    if not told and old.rows:
        told.append("the same rows in another order")
    moved = [key for key in {**old.numbers, **new.numbers} if old.numbers.get(key) != new.numbers.get(key)]
    told += [f"{key} was {old.numbers.get(key)}, is {new.numbers.get(key)}" for key in moved[:_MAX_NAMED]]
    told += [f"{len(moved) - _MAX_NAMED} more numbers moved"] if len(moved) > _MAX_NAMED else []
    same = "its numbers are the same to 7 digits" if old.numbers else "nothing more is stored of it"
    return "; ".join(told) or f"other content; {same}"


def _named(keys: list[str]) -> str:
    more = f" and {len(keys) - _MAX_NAMED} more" if len(keys) > _MAX_NAMED else ""
    return ", ".join(keys[:_MAX_NAMED]) + more
