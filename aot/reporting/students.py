"""What the students of a run are, in words: what each arm was to learn, what it saw, and which a comparison is about.

What an arm saw is said by its own record, never guessed from its settings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from aot.config import NO_FRAMES, NO_TOOLS, SHUFFLED_BOOK, WAYS, ArmConfig, switched
from aot.display import counted
from aot.errors import SourceError
from aot.files.jsonl import read_json
from aot.files.run_folder import TRAINING, RunFolder

SAW_NONE = "saw no rationale"
"""Stands behind the name of every arm that was to learn rationales and came to none."""
FEW_RATIONALES = 10
MODES = {
    "direct": "answer at once", "reason": "reasoning first", "explain": "answer first", "adaptive": "own choice",
    "tools": "calling tools", "likelihood": "likeliest choice", "none": "",
}  # fmt: skip
_ORDERS = {
    "answers_only": "learns answers only",
    "pre": "thinks, then answers",
    "post": "answers, then explains; stops after the answer",
    "adaptive": "chooses: at once, short steps, or all steps",
    "tool_use": "calls tools, then answers",
}
DAMAGED = {
    "wrong_content": "chains with wrong content in sound structure",
    "shuffled": "chains with shuffled steps",
    "deleted": "chains with steps left out",
}
_PLAIN = "plain chains of thought, neither decomposed nor checked"
_SWITCHES = {
    "parts": "rationale and answer learned apart", "choice": "chains chosen by likelihood",
    "key_weight": "names, numbers and times weighted {}", "negative_weight": "rejected chains weighted -{}",
    "weighting": "tokens weighted by their probability",
}  # fmt: skip
_OTHERS = {
    "base": "student before training",
    "teacher": "writes the traces that students learn from",
    "copy_last": "baseline: repeats the latest true step, of the options if there are any",
    "task_majority": "baseline: the most frequent next step of the known task",
    "bigram_predicted": "baseline: what follows, in the known task, the last step that the tools saw",
    "bigram_gold": "baseline: what follows, in the known task, the true last step",
    "trigram_predicted": "baseline: what follows, in the known task, the last two steps that the tools saw",
    "trigram_gold": "baseline: what follows, in the known task, the true last two steps",
}
LACKS = {
    NO_FRAMES: "with all frames taken away",
    NO_TOOLS: "with every tool switched off",
    SHUFFLED_BOOK: "with a book whose cards are shuffled",
    WAYS["direct"]: "always answering at once",
    WAYS["short"]: "always taking short steps",
    WAYS["full"]: "always taking all steps",
}
"""What the twins of an arm lack, by the endings of their names."""
PALETTE = tuple(f"var(--series{number})" for number in range(10))
"""Named in style.css, which gives each a light and a dark value."""


class Learned(NamedTuple):
    """What one trained arm saw, by its own record; None where that says nothing."""

    questions: int | None
    rationales: int | None


@dataclass(frozen=True)
class Learning:
    """What the trained arms of a run saw; every place that tells what an arm is asks here."""

    arms: tuple[ArmConfig, ...] = ()
    """Every arm that was to be trained."""
    seen: Mapping[str, Learned] = field(default_factory=dict)
    """By name of the arm; without those that left no record."""

    def saw_none(self, arm: ArmConfig) -> bool:
        """Whether an arm was to learn rationales, and its record says that it came to none."""
        return arm.learns_rationales and arm.name in self.seen and self.seen[arm.name].rationales == 0

    def shown(self, name: str) -> str:
        """The name of an arm, or of a twin of it, for a reader."""
        ending = next((one for one in LACKS if name.endswith(one)), "")
        trained = next((arm for arm in self.arms if arm.name == name.removesuffix(ending)), None)
        return f"{name} ({SAW_NONE})" if trained and self.saw_none(trained) else name

    @cached_property
    def main(self) -> str | None:
        """The first arm that learned rationales, best before the answer, and no control of plain chains."""
        ranked = sorted(self._distilled, key=lambda arm: (arm.chains == "plain", arm.order != "pre"))
        return ranked[0].name if ranked else None

    @cached_property
    def actor(self) -> str | None:
        """The first arm that learned to call tools itself."""
        return next((arm.name for arm in self._distilled if arm.order == "tool_use"), None)

    @cached_property
    def control(self) -> str | None:
        """The first arm that learned answers only."""
        return next((arm.name for arm in self.arms if arm not in self._distilled), None)

    @property
    def lead(self) -> str | None:
        """The arm that stands for the run where one must: the main one, or where nothing was distilled the control."""
        return self.main or self.control

    @cached_property
    def _distilled(self) -> list[ArmConfig]:
        return [arm for arm in self.arms if arm.learns_rationales and not self.saw_none(arm)]

    @cached_property
    def colors(self) -> dict[str, str]:
        """One colour for each student, the same in every chart."""
        names = dict.fromkeys(name for name in (self.main, self.control, "base", *(a.name for a in self.arms)) if name)
        return {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(names)}

    def what(self, name: str) -> str:
        """What the holder of a name in the tables is, in a few words."""
        arm = next((arm for arm in self.arms if arm.name == name), None)
        if arm is None:
            lacks = next((what for ending, what in LACKS.items() if name.endswith(ending)), "")
            return f"the same student {lacks}" if lacks else _OTHERS.get(name, "")
        words = [said[key] for said, key in ((_ORDERS, arm.order), (DAMAGED, arm.chains)) if key in said]
        words += [_PLAIN] if arm.chains == "plain" else []
        if arm.learns_rationales or not words:
            words.append(self._trained_on(arm))
        words += ["then its own replies under a judge"] if arm.chains == "on_policy" else []
        if arm.chain_share < 1:
            then = ", then its own" if arm.chains == "self" else ""
            words.append(f"{arm.chain_share:.0%} of the teacher's chains{then}")
        words += [_SWITCHES[key].format(value) for key, value in switched(arm).items()]
        words += ["full fine-tuning"] if arm.tuning == "full" else []
        return "; ".join(words + ([f"{arm.max_steps} steps"] if arm.max_steps else []))

    def _trained_on(self, arm: ArmConfig) -> str:
        if not arm.learns_rationales:
            return "trained on answers only"
        if self.saw_none(arm):
            return f"was to learn rationales and {SAW_NONE}: trained on answers only"
        questions, rationales = self.seen.get(arm.name, (None, None))
        if rationales is None:
            return f"to be trained on answers and rationales (λ={arm.rationale_weight:g}); no record of what it saw"
        answers = "answers" if questions is None else counted(questions, "answer")
        return f"trained on {answers} and {counted(rationales, 'rationale')} (λ={arm.rationale_weight:g})"

    def warnings(self) -> list[str]:
        """A warning for each arm that was to learn rationales and saw none or few."""
        warnings = []
        for arm in self.arms:
            rationales = self.seen[arm.name].rationales if arm.name in self.seen else None
            if self.saw_none(arm):
                warnings.append(f"{self.shown(arm.name)}: this is not a distilled student.")
            elif arm.learns_rationales and rationales and rationales < FEW_RATIONALES:
                few = f"{arm.name} learned from {counted(rationales, 'rationale')} only"
                warnings.append(f"{few}, too few to say anything about learning from them.")
        return warnings


def training_facts(run: RunFolder, arm: str) -> dict[str, Any]:
    """The record that a trained arm left; empty where there is none.

    Raises:
        SourceError: it is not JSON.
    """
    path = run.arm(arm) / TRAINING
    try:
        facts = read_json(path) if path.exists() else {}
    except ValueError as error:
        raise SourceError(f"{path} is not JSON ({error}); train this arm again") from error
    return facts if isinstance(facts, dict) else {}


def read_learning(run: RunFolder, arms: tuple[ArmConfig, ...]) -> Learning:
    """What each trained arm of a run saw, by its record."""
    seen = {}
    for path in sorted(run.arm("").glob(f"*/{TRAINING}")):
        facts = training_facts(run, path.parent.name)
        # A record of before the seen ones were counted tells those that there were.
        counts = (facts.get(f"{what}_seen", facts.get(what)) for what in ("questions", "rationales"))
        seen[path.parent.name] = Learned(*(x if isinstance(x, int) else None for x in counts))
    return Learning(arms, seen)
