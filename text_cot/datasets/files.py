"""Reads the local files of a text data set as questions, worked solutions and refusals: nothing vanishes.

Every row becomes a question or a refusal. No question text and no group stands in two splits. Knows no teacher and no
student; the files are the user's own, nothing is downloaded.
"""

import heapq
from collections.abc import Iterable
from pathlib import Path

from aot.answers import mixed_options
from aot.errors import SourceError
from aot.files.jsonl import RefusedRow, RowProblem, Splits, refused_words
from aot.records import Question, Refusal
from aot.run_records import GivenRationale
from aot.seeds import share
from text_cot.datasets.layouts import LAYOUTS, FileKind, Layout, Problem, wrong_columns
from text_cot.datasets.rows import TextRow, read_rows
from text_cot.datasets.source import TextSource, gold_problem, same_template, same_text, short_hash

LOOK_AHEAD = 1000
"""Rows without the wanted columns after which the file is given up."""


def read_text_files(
    kind: FileKind, *, train: Path, test: Path | None, test_share: float, seed: int, limit: int | None
) -> TextSource:
    """Questions of the splits `train` and `test`, their worked solutions, and a refusal for each unusable row.

    Args:
        kind: which data set the files belong to.
        train: its training file; a folder for MATH in its original form.
        test: its test file; None holds whole groups of the training file out, chosen by (seed, group) only, unless
            rows name their split themselves (text_jsonl).
        test_share: expected share of the groups that are held out.
        seed: of the held-out groups, and of the sample when there is a limit.
        limit: at most this many questions of each split, a seeded sample; None keeps all. Rows beyond it are neither
            questions nor refusals.

    Raises:
        SourceError: a file is missing or broken, has other columns, or has no usable row.
        MissingPackageError: a .parquet file is given and `pyarrow` is not installed.
    """
    layout = LAYOUTS[kind]
    reader = SplitReader(kind, test_share=0.0 if test else test_share, seed=seed, limit=limit)
    for path, role in ((test, "test"), (train, "train")):
        if path is None:
            continue
        if kind == "text_jsonl" and role == "train" and not test:
            reader.splits_named = any(isinstance(row, TextRow) and row.fields.get("split") for row in read_rows(path))
        reader.read(read_rows(path), layout, role=role, place=str(path))
    return reader.source()


class SplitReader:
    """Turns rows into questions and remembers which ids, texts and groups earlier rows used."""

    def __init__(self, dataset: str, *, test_share: float, seed: int, limit: int | None) -> None:
        self.dataset, self.test_share, self.seed = dataset, test_share, seed
        self.kept = _Sample(limit, seed)
        self.refusals: list[Refusal] = []
        self.splits_named = False
        """Whether rows say themselves in which split they are, so that none is held out."""
        self._ids: set[str] = set()
        self._splits = Splits()

    def source(self) -> TextSource:
        """All that was read."""
        pairs = self.kept.pairs()
        rationales = (GivenRationale(question_id=question.id, text=chain) for question, chain in pairs if chain)
        return TextSource(tuple(question for question, _ in pairs), tuple(rationales), tuple(self.refusals))

    def read(self, rows: Iterable[TextRow | RefusedRow], layout: Layout, *, role: str, place: str) -> None:
        """Take the rows of one split in.

        Args:
            rows: good and refused ones.
            layout: how a row becomes a problem.
            role: `train` or `test`.
            place: where they come from, for messages.

        Raises:
            SourceError: as `read_text_files`.
        """
        wanted = set(layout.wanted)
        columns: dict[str, None] = {}
        before, num_rows, num_good, num_fit = len(self.refusals), 0, 0, 0
        for row in rows:
            num_rows += 1
            if isinstance(row, TextRow):
                columns.update(dict.fromkeys(map(str, row.fields)))
                num_fit += wanted <= row.fields.keys()
            num_good += self._take(row, layout, role)
            if num_rows == LOOK_AHEAD and columns and not num_fit:
                break
        if not num_rows:
            raise SourceError(f"{place} has no rows; a {self.dataset} file has one problem a row")
        if columns and not num_fit:
            raise SourceError(f"{place}: {wrong_columns(self.dataset, layout, tuple(columns))}")
        if not num_good:
            why = refused_words(self.refusals[before:], most=1).removeprefix("refused: ")
            raise SourceError(f"{place}: none of the {num_rows} rows can be used: {why}")

    def _take(self, row: TextRow | RefusedRow, layout: Layout, role: str) -> bool:
        """Whether the row became a question; if not, it is one more refusal."""
        refused = row
        if isinstance(row, TextRow):
            try:
                problem = layout.read(row.fields)
                self.kept.add(self._question(problem, f"{self.dataset}/{role}/{row.name}", role), problem.rationale)
            except RowProblem as rejection:
                refused = rejection.row(row.place)
            else:
                return True
        assert isinstance(refused, RefusedRow)
        self.refusals.append(
            Refusal(item=refused.item, boundary="source", reason=refused.reason, detail=refused.detail)
        )
        return False

    def _question(self, problem: Problem, default_id: str, role: str) -> Question:
        """The question of a problem.

        Raises:
            RowProblem: duplicate_id, gold_unparsable, or two_splits.
        """
        id_ = problem.id or default_id
        if id_ in self._ids:
            raise RowProblem("duplicate_id", f"the id {id_!r} was used by an earlier row")
        text_key = short_hash("text", same_text(problem.text))
        template_key = short_hash("template", same_template(problem.text))
        group = problem.group or (text_key if self.dataset == "text_jsonl" else template_key)
        split = problem.split or self._split_of(group, role)
        question = gradable(problem, id=id_, dataset=self.dataset, split=split, group=group)
        self._splits.claim({f"group {group}": f"the group {group!r}", f"text {text_key}": "the same question"}, split)
        self._ids.add(id_)
        return question

    def _split_of(self, group: str, role: str) -> str:
        if role == "train" and not self.splits_named and share(self.seed, group) < self.test_share:
            return "test"
        return role


class _Sample:
    """At most `limit` questions of each split, whatever the length of the file: those with the smallest draws."""

    def __init__(self, limit: int | None, seed: int) -> None:
        self.limit, self.seed = limit, seed
        self._heaps: dict[str, list[tuple[float, int, Question, str]]] = {}
        self._count = 0

    def add(self, question: Question, rationale: str) -> None:
        self._count += 1
        heap = self._heaps.setdefault(question.split, [])
        if self.limit is None:
            heap.append((0.0, self._count, question, rationale))
            return
        entry = (-share(self.seed, "limit", question.id), self._count, question, rationale)
        if len(heap) < self.limit:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)

    def pairs(self) -> list[tuple[Question, str]]:
        """Questions and worked solutions in the order of the files."""
        entries = sorted((entry for heap in self._heaps.values() for entry in heap), key=lambda entry: entry[1])
        return [(question, rationale) for _, _, question, rationale in entries]


def gradable(problem: Problem, *, id: str, dataset: str, split: str, group: str) -> Question:
    """The question with the first answer type by which its gold answer is right.

    Raises:
        RowProblem: gold_unparsable, if there is none, or bad_choices.
    """
    reason = ""
    for answer_type in dict.fromkeys(problem.types):
        answer = problem.answer.lower() if answer_type == "yes_no" else problem.answer
        question = Question(
            id=id, dataset=dataset, split=split, kind=problem.kind, text=problem.text, choices=problem.choices,
            answer=answer, answer_type=answer_type, reading=problem.reading, group=group,
        )  # fmt: skip
        wrong = gold_problem(question)
        if not wrong and (mixed := mixed_options(question)):
            raise RowProblem("bad_choices", mixed)
        if not wrong:
            return question
        reason = reason or wrong
    raise RowProblem("gold_unparsable", reason)
