"""Students that are asked: an export, or the base and the arms of a run, which answer questions and weigh sentences.

Sentences are weighed as plain text behind the token that begins a text (as lm-evaluation-harness does: the beginning of
a text, or else its end), not as replies. What a student's tokenizer cannot write is refused and counted, because two
sentences with the same unknown word would be compared without it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aot.audit.scores import Said
from aot.audit.suites import ChoiceItem, Item, SentencePair, Suite
from aot.errors import AotError, SourceError
from aot.records import Prediction, PromptMode, Question
from aot.serving.domain import check_choices
from aot.serving.export.probe import answers
from aot.student.answer.decoding import Prompt
from aot.student.answer.likelihood import log_sums
from aot.student.answer.predict import predict
from aot.student.model.loading import Student
from aot.teacher.bench import Bench

BATCH = 32


@dataclass
class Speaker:
    """One student."""

    name: str
    student: Student
    mode: PromptMode
    """How it answers questions of its run."""
    frames: Path | None = None
    """The frame store of the run."""
    bench: Bench | None = None
    refused: Counter[str] = field(default_factory=Counter)
    """Items that it could not be asked, by suite and reason."""

    def answer(self, questions: Sequence[Question]) -> dict[str, Prediction]:
        """Its answers, by question id."""
        frames = self.frames if any(one.media for one in questions) else None
        made = answers(
            self.student, questions, modes=[self.mode], frames=frames, batch_size=BATCH, bench=self.bench
        )  # fmt: skip
        return {row.question_id: row.model_copy(update={"arm": self.name}) for row in made}

    def weigh(self, suite: Suite) -> dict[str, Said]:
        """What it says to each item of a suite that it can be asked."""
        if suite.form == "bbq":
            return self._choose(suite)
        said: dict[str, Said] = {}
        items = [item for item in suite.items if not isinstance(item, ChoiceItem)]
        for start in range(0, len(items), BATCH):
            said |= self._log_likelihoods(items[start : start + BATCH], suite)
        return said

    def _choose(self, suite: Suite) -> dict[str, Said]:
        """The likeliest option of each question, of all that is said exactly so."""
        posed: dict[str, ChoiceItem] = {}
        for item in suite.items:
            assert isinstance(item, ChoiceItem)
            try:
                check_choices(self.student, item.choices)
                self._ids(item.text)
            except AotError:
                self.refused[f"{suite.name}: unknown_words"] += 1
                continue
            posed[item.id] = item
        questions = [
            Question(
                id=item.id, dataset=suite.name, split="suite", kind=item.category, text=item.text, group=item.group,
                choices=item.choices, answer=item.choices[item.answer], answer_type="choice",
            )
            for item in posed.values()
        ]  # fmt: skip
        said: dict[str, Said] = {}
        for row in predict(self.student, questions, arm=self.name, mode="likelihood", batch_size=BATCH):
            if row.error:
                self.refused[f"{suite.name}: failed"] += 1
            said[row.question_id] = max(range(len(p)), key=p.__getitem__) if (p := row.choice_probs) else None
        return said

    def _log_likelihoods(self, items: Sequence[Item], suite: Suite) -> dict[str, Said]:
        prompts, written, ids = list[Prompt](), list[list[tuple[int, ...]]](), list[str]()
        for item in items:
            try:
                lead, sentences = self._lead_and_sentences(item)
            except AotError:
                self.refused[f"{suite.name}: unknown_words"] += 1
                continue
            if len(lead) + max(map(len, sentences)) > self.student.most_tokens:
                self.refused[f"{suite.name}: too_long"] += 1
                continue
            prompts.append(Prompt(ids=lead))
            written.append(sentences)
            ids.append(item.id)
        if not ids:
            return {}
        made: dict[str, Said] = {}
        sums = log_sums(self.student, prompts, written)
        for name, row, sentences in zip(ids, sums, written, strict=True):
            # StereoSet's sentences differ in length, so that its authors take the mean over tokens.
            by_token = suite.form == "stereoset"
            made[name] = tuple(
                value / len(one) if by_token else value for value, one in zip(row, sentences, strict=True)
            )
        return made

    def _lead_and_sentences(self, item: Item) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
        """Ids before the sentences of an item, and those of each sentence.

        Raises:
            SourceError: the tokenizer cannot write one of them.
        """
        assert not isinstance(item, ChoiceItem)
        start = (self._start_id(),)
        if isinstance(item, SentencePair):
            return start, [self._ids(item.more), self._ids(item.less)]
        lead = (*start, *self._ids(item.context)) if item.context else start
        blank = " " if item.context else ""
        return lead, [self._ids(blank + one) for one in (item.stereotype, item.anti_stereotype, item.unrelated)]

    def _start_id(self) -> int:
        tokenizer = self.student.renderer.tokenizer
        named = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return int(named if named is not None else self.student.end_ids[0])

    def _ids(self, text: str) -> tuple[int, ...]:
        """Ids of plain text.

        Raises:
            SourceError: it holds a word that the tokenizer does not know.
        """
        renderer = self.student.renderer
        if mark := renderer.reserved_mark(text):
            raise SourceError(f"the text must not contain {mark!r}, which the model reserves")
        ids = tuple(renderer.tokenizer(text, add_special_tokens=False)["input_ids"])
        if not ids or renderer.has_unknown(ids):
            raise SourceError("the text has words that this student does not know")
        return ids
