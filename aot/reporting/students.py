"""What the students of a run are, in words: what each arm was to learn, what it saw, and which a comparison is about.

What an arm saw is said by its own record, never guessed from its settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aot.config import NO_FRAMES, ArmConfig
from aot.display import counted
from aot.errors import SourceError
from aot.files.jsonl import read_json
from aot.files.run_folder import TRAINING, RunFolder

SAW_NONE = "saw no rationale"
"""Stands behind the name of every arm that was to learn rationales and came to none."""
FEW_RATIONALES = 10
MODES = {
    "direct": "answer at once", "reason": "reasoning first", "explain": "answer first", "adaptive": "own choice",
    "likelihood": "likeliest choice", "none": "",
}  # fmt: skip
_ORDERS = {
    "answers_only": "learns answers only",
    "pre": "thinks, then answers",
    "post": "answers, then explains; stops after the answer",
    "adaptive": "chooses: at once, short steps, or all steps",
}
DAMAGED = {
    "wrong_content": "chains with wrong content in sound structure",
    "shuffled": "chains with shuffled steps",
    "deleted": "chains with steps left out",
}
_OTHERS = {
    "base": "student before training",
    "teacher": "writes the traces that students learn from",
    "copy_last": "baseline: the latest gold step (of the choices, if there are any)",
    "task_majority": "baseline: most frequent next step of the known task",
    "bigram_predicted": "baseline: successor, in the known task, of the step the teacher's tools saw last",
    "bigram_gold": "baseline: successor, in the known task, of the true last step",
    "trigram_predicted": "baseline: successor, in the known task, of the two steps the teacher's tools saw last",
    "trigram_gold": "baseline: successor, in the known task, of the true last two steps",
}
PALETTE = ("#2563eb", "#d97706", "#64748b", "#059669", "#9333ea", "#db2777", "#0891b2", "#65a30d", "#b45309", "#475569")


@dataclass(frozen=True)
class Learned:
    """What one trained arm saw, by its own record; None where that says nothing."""

    questions: int | None
    rationales: int | None


@dataclass(frozen=True)
class Learning:
    """What the trained arms of a run saw; every place that tells what an arm is asks here."""

    arms: dict[str, Learned] = field(default_factory=dict)
    """By name; without those that left no record."""

    def saw_none(self, arm: ArmConfig) -> bool:
        """Whether an arm was to learn rationales, and its record says that it came to none."""
        learned = self.arms.get(arm.name)
        return arm.learns_rationales and learned is not None and learned.rationales == 0

    def shown(self, name: str, arms: Sequence[ArmConfig]) -> str:
        """The name of an arm, or of its twin without frames, for a reader."""
        trained = next((arm for arm in arms if arm.name == name.removesuffix(NO_FRAMES)), None)
        return f"{name} ({SAW_NONE})" if trained and self.saw_none(trained) else name


@dataclass(frozen=True)
class Roles:
    """Which arms the headline is about."""

    control: str | None
    """Trained on answers only."""
    main: str | None
    """Trained on rationales as well."""


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


def read_learning(run: RunFolder) -> Learning:
    """What each trained arm of a run saw, by its record."""
    arms = {}
    for path in sorted((run.root / "student").glob(f"*/{TRAINING}")):
        facts = training_facts(run, path.parent.name)
        # A record of before the seen ones were counted tells those that there were.
        rationales = facts.get("rationales_seen", facts.get("rationales"))
        questions = facts.get("questions_seen", facts.get("questions"))
        arms[path.parent.name] = Learned(*(x if isinstance(x, int) else None for x in (questions, rationales)))
    return Learning(arms)


def roles(learning: Learning, arms: Sequence[ArmConfig]) -> Roles:
    """The first arm that learns answers only, and the first that learned rationales, best before the answer."""
    distilled = [arm for arm in arms if arm.learns_rationales and not learning.saw_none(arm)]
    control = next((arm.name for arm in arms if arm not in distilled), None)
    main = min(distilled, key=lambda arm: arm.order != "pre", default=None)
    return Roles(control, main.name if main else None)


def colors(learning: Learning, arms: Sequence[ArmConfig]) -> dict[str, str]:
    """One colour for each student, the same in every chart."""
    role = roles(learning, arms)
    names = dict.fromkeys(name for name in (role.main, role.control, "base", *(a.name for a in arms)) if name)
    return {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(names)}


def what_is(name: str, learning: Learning, arms: Sequence[ArmConfig]) -> str:
    """What the holder of a name in the tables is, in a few words."""
    arm = next((arm for arm in arms if arm.name == name), None)
    if arm is not None:
        return "; ".join(_words(arm, learning))
    if name.endswith(NO_FRAMES):
        return "the same student with all frames taken away"
    return _OTHERS.get(name, "")


def _words(arm: ArmConfig, learning: Learning) -> list[str]:
    words = [_ORDERS[arm.order]] if arm.order in _ORDERS else []
    words += [DAMAGED[arm.chains]] if arm.chains in DAMAGED else []
    if arm.learns_rationales or not words:
        words.append(_trained_on(arm, learning))
    if arm.chain_share < 1:
        then = ", then its own" if arm.chains == "self" else ""
        words.append(f"{arm.chain_share:.0%} of the teacher's chains{then}")
    words += ["full fine-tuning"] if arm.tuning == "full" else []
    return words + ([f"{arm.max_steps} steps"] if arm.max_steps else [])


def _trained_on(arm: ArmConfig, learning: Learning) -> str:
    if not arm.learns_rationales:
        return "trained on answers only"
    if learning.saw_none(arm):
        return f"was to learn rationales and {SAW_NONE}: trained on answers only"
    learned = learning.arms.get(arm.name)
    if learned is None or learned.rationales is None:
        return f"to be trained on answers and rationales (λ={arm.rationale_weight:g}); no record of what it saw"
    answers = "answers" if learned.questions is None else counted(learned.questions, "answer")
    return f"trained on {answers} and {counted(learned.rationales, 'rationale')} (λ={arm.rationale_weight:g})"


def few_rationales(learning: Learning, arms: Sequence[ArmConfig]) -> list[str]:
    """A warning for each arm that was to learn rationales and saw none or few."""
    warnings = []
    for arm in arms:
        learned = learning.arms.get(arm.name)
        if learning.saw_none(arm):
            warnings.append(f"{learning.shown(arm.name, arms)}: it is no distilled student.")
        elif arm.learns_rationales and learned and 0 < (learned.rationales or 0) < FEW_RATIONALES:
            few = counted(learned.rationales or 0, "rationale")
            warnings.append(f"{arm.name} learned from {few} only, too few to say anything about learning from them.")
    return warnings
