"""The prompt files of the chat teacher: one for each order of thought and granularity, built in or the user's own.

A folder of the user's holds `pre_coarse.txt`, `pre_fine.txt` and so on, or `pre.txt` and `post.txt` for both
granularities. Slots: `{{question}}` is the question with its options, fenced as data; `{{question_text}}` the same
without a fence, for models trained on bare questions; `{{answer_form}}` says what the answer shall look like.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from aot.chat.prompts import Prompt, data_slot, load_prompt
from aot.config import SolvingTeacher
from aot.config.teaching import BUILT_IN_PROMPTS
from aot.errors import ConfigError
from aot.records import AnswerType, Question
from text_cot.families import Granularity

GRANULARITIES: tuple[Granularity, ...] = ("coarse", "fine")
SLOTS = ("question", "question_text", "answer_form")
_SLOT = re.compile(r"\{\{(\w+)\}\}")
_FORMS: dict[AnswerType, str] = {
    "choice": "the text of one of the options",
    "integer": "one whole number",
    "yes_no": "yes or no",
    "decimal": "one number",
    "fraction": "one number or fraction",
    "number": "one number",
    "percent": "one percentage",
    "money": "one amount of money",
    "quantity": "one number with its unit",
    "expression": "one mathematical expression",
    "collection": "one tuple, set or interval",
    "letter": "the letter of one of the options",
    "date": "one date",
    "clock": "one time of day",
    "duration": "one duration",
}


def teacher_prompts(config: SolvingTeacher) -> dict[Granularity, Prompt]:
    """The prompt of each granularity, in the configured order of thought.

    Raises:
        ConfigError: the folder has no such file, or a file has an unknown slot or none for the question.
    """
    return {granularity: _prompt(config, granularity) for granularity in GRANULARITIES}


def fill(prompt: Prompt, question: Question) -> str:
    """What the model is asked; words of the question cannot leave the data slot."""
    text = question.text
    if question.choices:
        text += f" Choices: {'; '.join(question.choices)}."
    options = "".join(f"\n- {choice}" for choice in question.choices)
    listed = question.text + (f"\nOptions:{options}" if options else "")
    values: Mapping[str, str] = {
        "question": data_slot("question", listed),
        "question_text": text,
        "answer_form": _FORMS.get(question.answer_type, "the answer alone"),
    }
    return prompt.fill(values).strip()


def _prompt(config: SolvingTeacher, granularity: Granularity) -> Prompt:
    name = f"{config.order}_{granularity}.txt"
    if config.prompts in BUILT_IN_PROMPTS:
        return load_prompt("text_cot", name if config.prompts == "built-in" else f"{config.prompts}/{name}")
    folder = Path(config.prompts)
    candidates = [folder / name, folder / f"{config.order}.txt"]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise ConfigError(
            f"teacher.prompts is {config.prompts!r}, but there is no file {candidates[0]} and no {candidates[1]}; "
            f"give a folder that has one of them, or one of: {', '.join(BUILT_IN_PROMPTS)}"
        )
    return _of_user(path)


def _of_user(path: Path) -> Prompt:
    try:
        text = path.read_text(encoding="utf-8").strip() + "\n"
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the prompt file {path} cannot be read: {error}") from None
    used = set(_SLOT.findall(text))
    if unknown := sorted(used - set(SLOTS)):
        raise ConfigError(f"{path}: there is no slot {unknown[0]!r}; known: {', '.join(SLOTS)}")
    if not used & {"question", "question_text"}:
        raise ConfigError(f"{path} has no slot for the question; write {{{{question}}}} where it shall stand")
    return Prompt(text, hashlib.sha256(text.encode()).hexdigest()[:12])
