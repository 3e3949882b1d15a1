"""`aot prefetch`: everything of a config that lies on a hub, fetched before a run that has no network."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aot.config import HfData, HubModel, RunConfig, chat_jobs
from aot.display import counted
from aot.errors import ConfigError, RunError, SourceError
from aot.records import Record
from aot.student import hub

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """One thing that a config names and a hub has."""

    key: str
    """Of the setting."""
    source: HubModel
    kind: hub.Kind
    into: Path | None
    """The folder that the run reads; None for the cache of data sets."""

    @property
    def place(self) -> str:
        """Where it goes, in words."""
        return str(self.into) if self.into else "the cache of huggingface_hub"


NewsState = Literal["note", "taken", "whole", "altered", "listed", "fetched"]


class News(Record):
    """What is told of one thing that a config wants, or of all of them; `aot prefetch --json` prints a list of it."""

    line: str
    state: NewsState = "note"
    key: str = ""
    """Of the setting; empty where it is about all."""
    name: str = ""
    """On the hub."""
    commit: str = ""
    into: str = ""
    num_files: int = 0
    num_bytes: int = 0
    """Of all files."""
    missing_bytes: int = 0


def wanted_of(config: RunConfig) -> list[Wanted]:
    """What a config wants from a hub, each folder once.

    Raises:
        ConfigError: a data set on the hub is named without a revision.
    """
    wanted: dict[tuple[str, Path | None], Wanted] = {}
    for key, source, folder in _models(config):
        wanted.setdefault((source.name, Path(folder)), Wanted(key, source, "model", Path(folder)))
    data = config.data
    if isinstance(data, HfData) and data.hf.path and not Path(data.hf.path).exists():
        from text_cot.datasets.hf import HUB_NAME

        if HUB_NAME.fullmatch(data.hf.path):
            if data.hf.revision is None:
                raise ConfigError(
                    f"data.hf.revision is needed for {data.hf.path}: a commit of 40 hex digits, or a branch such as "
                    "main, which is then pinned"
                )
            source = HubModel(name=data.hf.path, revision=data.hf.revision)
            wanted[data.hf.path, None] = Wanted("data.hf.path", source, "dataset", None)
    return list(wanted.values())


def _models(config: RunConfig) -> Iterator[tuple[str, HubModel, str]]:
    if config.student.hub:
        yield "student.base", config.student.hub, config.student.base
    hf = getattr(config.teacher, "hf", None)
    for name in ("detector", "similarity") if hf else ():
        if (source := getattr(hf, f"{name}_hub")) and getattr(hf, name):
            yield f"teacher.hf.{name}", source, getattr(hf, name)
    for setting, section in chat_jobs(config).values():
        if section and section.hub:
            yield f"the local model of {setting}", section.hub, section.model


def fetch_news(config: RunConfig, *, dry_run: bool = False, endpoint: str | None = None) -> Iterator[News]:
    """Fetch what a config wants and is not here, telling sizes before; what is here already is compared with its lock.

    Raises:
        SourceError: a name or state is not there, a file is damaged, or nobody answers.
        GuardStop: the disk is too small; nothing of it was fetched.
        RunError: a folder holds something else.
    """
    wanted = wanted_of(config)
    if not wanted:
        yield News(line="this config names nothing on a hub (student.hub, teacher.hf.*_hub, chat.hub, data.hf.path)")
    plans: list[tuple[Wanted, hub.Listing]] = []
    for one in wanted:
        lock = _lock_of(one)
        if lock is None and one.into and one.into.is_dir() and any(one.into.iterdir()):
            line = f"{one.key}: {one.into} is there and was not fetched by this command; it is taken as it is"
            yield _news(one, line, "taken")
            continue
        if lock and lock.files and one.into:
            if damaged := hub.damaged_files(one.into, lock):
                line = f"{one.key}: {one.into} was altered since ({', '.join(damaged[:3])}); that is fetched again"
                yield _news(one, line, "altered", commit=lock.commit, num_files=len(damaged))
                for name in damaged:
                    (one.into / name).unlink(missing_ok=True)
            else:
                there = f"{one.source.name} at {lock.commit} lies in {one.into}"
                line = f"{one.key}: {there}, whole: {counted(len(lock.files), 'file')}"
                yield _news(one, line, "whole", commit=lock.commit, num_files=len(lock.files))
                continue
        listing = hub.list_files(one.source, one.kind, commit=lock.commit if lock else "", endpoint=endpoint)
        left = hub.missing_bytes(listing, one.into)
        size = f"{counted(len(listing.files), 'file')}, {_size(listing.size)}"
        to_come = f"{_size(left)} of it to be fetched into {one.place}"
        line = f"{one.key}: {one.source.name} at {listing.commit}, {size}, {to_come}"
        counts = {"num_files": len(listing.files), "num_bytes": listing.size, "missing_bytes": left}
        yield _news(one, line, "listed", commit=listing.commit, **counts)
        plans.append((one, listing))
    if dry_run:
        return
    for one, _ in plans:
        hub.require_room(
            one.into or hub.cache_folder(), sum(hub.missing_bytes(each, other.into) for other, each in plans)
        )
    for one, listing in plans:
        folder = hub.fetch(one.source, listing, one.into, endpoint=endpoint)
        line = f"{one.key}: whole in {folder}; {counted(len(listing.files), 'file')} compared with their hashes"
        sizes = {"num_files": len(listing.files), "num_bytes": listing.size}
        yield _news(one, line, "fetched", into=str(folder), commit=listing.commit, **sizes)
        if one.source.revision != listing.commit:
            moved = f"  {one.source.revision} is {listing.commit} now; write that as its revision"
            yield News(line=moved, key=one.key)
    if wanted:
        yield News(line="the run needs no network now: set HF_HUB_OFFLINE=1, and see `aot doctor --offline CONFIG`")


def _news(one: Wanted, line: str, state: NewsState, **facts: Any) -> News:  # noqa: ANN401 - fields of News
    return News(**{"line": line, "state": state, "key": one.key, "name": one.source.name, "into": one.place, **facts})


def _lock_of(one: Wanted) -> hub.HubLock | None:
    """What an earlier call left where this one would fetch into."""
    if one.into is None:
        commit = hub.pinned_dataset(one.source.name, one.source.revision)
        return hub.HubLock(name=one.source.name, revision=one.source.revision, commit=commit) if commit else None
    if one.into.exists() and not one.into.is_dir():
        raise RunError(f"{one.key}: {one.into} is a file; give the folder that the model shall lie in")
    lock = hub.read_lock(one.into)
    if lock and lock.name != one.source.name:
        raise RunError(f"{one.key}: {one.into} holds {lock.name}, not {one.source.name}; give another folder")
    if lock and one.source.revision not in (lock.revision, lock.commit):
        raise SourceError(
            f"{one.key}: {one.into} holds {lock.name} at {lock.commit}, and the config wants {one.source.revision}; "
            "give another folder, or delete this one"
        )
    return lock


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.2f} MB"
