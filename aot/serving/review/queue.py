"""The queue of a server: kinds of questions whose answers nobody is told before a person has looked at them.

A request is known by what it asks: the same request has the same id, so a client that asks again gets the answer once
somebody gave one, from any process on the same folder. A request whose kind is not told, or is none that the student
learned, waits too: otherwise leaving the kind out would be a way around. This module knows no route.
"""

import hashlib
import io
import json
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aot.chat.messages import ImagePart
from aot.display import storable
from aot.errors import AotError, ConfigError
from aot.files.parts import Part, parts_of, writer_name
from aot.files.run_folder import RunFolder
from aot.review.rows import read_pending, read_reviews
from aot.review.standing import Standing, standings_of
from aot.review_records import AskedQuestion, PendingRow, Picture, ReviewOut
from aot.serving.review.items import MOST_FRAMES, PICTURE_SIDE_PX

MOST_WAITING = 1_000
"""Requests that may wait; one more is refused, so that nobody fills a disk with them."""
EVERY_KIND = "*"


@dataclass(frozen=True)
class Outcome:
    """What a client is told of a request under review."""

    review: ReviewOut
    answer: str = ""
    """Of the person, or the one that the person approved; empty while there is none."""
    watermark: str = ""
    """Of an answer that the person approved, as the row says it."""

    @property
    def is_settled(self) -> bool:
        """Whether a person gave an answer, or said that there is none."""
        return self.review.state != "pending"


class QueueFullError(AotError):
    """So many requests wait that another one cannot."""


class ReviewQueue:
    """Requests that wait for a person, in a folder; may be used from many threads."""

    def __init__(self, root: Path, *, kinds: Sequence[str], learned: Sequence[str]) -> None:
        """Reads what waits there already.

        Args:
            root: the run folder, or any other folder that `aot review` is given.
            kinds: those under review; `*` for every one.
            learned: all that the student learned, so that another one can be told from a kind that nobody named.

        Raises:
            ConfigError: a kind is none that the student learned.
            AotError: the folder cannot be read or written.
        """
        if strange := [one for one in kinds if one != EVERY_KIND and learned and one not in learned]:
            raise ConfigError(
                f"no kind {strange[0][:60]!r} to review; the student knows {', '.join(learned)}, and * is every kind"
            )
        self._run, self._kinds, self._known = RunFolder(root), frozenset(kinds), frozenset(learned)
        self._lock = threading.Lock()
        self._waits: dict[str, PendingRow] = {}
        self._part = Part(self._run.pending, writer_name())
        self._sizes: tuple[object, object] = ((), ())
        self._standings: dict[str, Standing] = {}
        self._read()

    def covers(self, kind: str) -> bool:
        """Whether an answer to a question of this kind waits for a person."""
        return is_under_review(kind, kinds=self._kinds, learned=self._known)

    def outcome(self, request_id: str) -> Outcome | None:
        """What is to be told of a request; None where it was never made."""
        with self._lock:
            self._read()
            row, standing = self._waits.get(request_id), self._standings.get(request_id)
        if row is None:
            return None
        if standing is None or standing.row.item != request_id:
            return Outcome(ReviewOut(state="pending", id=request_id))
        answer = {"approved": row.answer, "corrected": standing.correction, "rejected": ""}[standing.verdict]
        mark = row.watermark if standing.verdict == "approved" else ""
        return Outcome(ReviewOut(state=standing.verdict, id=request_id), answer, mark)

    def add(self, row: PendingRow, pictures: Sequence[ImagePart] = ()) -> Outcome:
        """Let a request wait, with the pictures that were shown.

        Raises:
            QueueFullError: too many wait already.
            AotError: the disk refuses it: whoever asked gets an error then, and no answer.
        """
        with self._lock:
            self._read()
            if row.id not in self._waits:
                if sum(one not in self._standings for one in self._waits) >= MOST_WAITING:
                    raise QueueFullError(f"{MOST_WAITING} requests wait for review; let a person look at them first")
                shown = tuple(self._kept(row.id, k, one) for k, one in enumerate(pictures[:MOST_FRAMES]))
                row = row.model_copy(update={"time_s": time.time(), "pictures": shown})
                self._part.append(row)
                self._waits[row.id] = row
        return Outcome(ReviewOut(state="pending", id=row.id))

    def close(self) -> None:
        """Close the file."""
        self._part.close()

    def _read(self) -> None:
        """Look again, where a file has grown since."""
        sizes = tuple(tuple((path.name, path.stat().st_size) for path in parts_of(folder))
                      for folder in (self._run.pending, self._run.reviews))  # fmt: skip
        if sizes == self._sizes:
            return
        self._waits = {row.id: row for row in read_pending(self._run)}
        rows = [row for row in read_reviews(self._run) if row.subject == "served"]
        self._standings = standings_of(rows).by_item
        self._sizes = (sizes[0], sizes[1])

    def _kept(self, request_id: str, number: int, image: ImagePart) -> Picture:
        from PIL import Image

        name = f"{request_id}-{number}.jpg"
        out = io.BytesIO()
        with Image.open(io.BytesIO(image.data)) as picture:
            small = picture.convert("RGB")
            small.thumbnail((PICTURE_SIDE_PX, PICTURE_SIDE_PX))
            small.save(out, "JPEG", quality=85)
        try:
            self._run.pending_pictures.mkdir(parents=True, exist_ok=True)
            (self._run.pending_pictures / name).write_bytes(out.getvalue())
        except OSError as error:
            raise AotError(f"the pictures of a request cannot be kept ({error.strerror})") from None
        return Picture(name=name, time_s=image.time_s)


def is_under_review(kind: str, *, kinds: Collection[str], learned: Collection[str]) -> bool:
    """Whether an answer to a question of this kind waits for a person, where these kinds are under review.

    >>> [is_under_review(kind, kinds=("sum",), learned=("sum", "easy")) for kind in ("sum", "easy", "")]
    [True, False, True]
    """
    if EVERY_KIND in kinds or kind in kinds:
        return True
    return bool(kinds) and kind not in learned


def request_id(*parts: Any) -> str:  # noqa: ANN401 - any JSON
    """The id of a request, over all that it asks."""
    text = storable(json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str))
    return f"review-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def question_of(text: str, *, choices: Sequence[str] = (), kind: str = "", video: Any = None) -> AskedQuestion:  # noqa: ANN401
    """A question of a client as a reviewer sees it; `video` is a path with its window."""
    window = {"video": video.path, "start_s": video.start_s, "end_s": video.end_s} if video else {}
    return AskedQuestion(text=storable(text), choices=tuple(map(storable, choices)), kind=storable(kind), **window)
