"""Who turns a finished trace into prose: the template, or a chat model that sees the steps and the answer they gave.

The gold answer is shown to neither. What a chat model writes must have the four parts of aot/rationales/notation.py
and end with the trace's answer; the evidence filter then holds every claim of it to the tool results.
"""

import zlib
from dataclasses import dataclass, field
from typing import Protocol

from aot.answers import parse_answer
from aot.chat.client import ChatModel
from aot.chat.messages import ChatRequest, message
from aot.chat.prompts import Prompt, data_slot, load_prompt
from aot.config import ChatConfig
from aot.errors import ParseError
from aot.rationales.notation import PARTS, parse_rationale
from aot.records import Question, Step, Turn
from aot.teacher.chat_planner import drawn_for, step_text
from aot.teacher.planner import FinalAnswer, Transcript
from aot.teacher.verbalise import verbalise

TRIES = 2


class Writer(Protocol):
    """Anything that writes a rationale."""

    @property
    def name(self) -> str:
        """Stored with each trace after the planner's name; empty for the template."""
        ...

    def write(
        self, question: Question, steps: tuple[Step, ...], final: FinalAnswer, *, candidate: int, transcript: Transcript
    ) -> str:
        """The rationale; each reply of a chat model is noted in `transcript`, before it is judged.

        Raises:
            ParseError: what came is no rationale.
            ChatError: nothing came.
        """
        ...


@dataclass(frozen=True)
class TemplateWriter:
    """Writes by aot/rationales/wording.py."""

    seed: int
    name: str = ""

    def write(
        self, question: Question, steps: tuple[Step, ...], final: FinalAnswer, *, candidate: int, transcript: Transcript
    ) -> str:
        """The template's rationale; costs nothing."""
        seed = zlib.crc32(f"{self.seed}:{question.id}:{candidate}".encode())
        return verbalise(question=question, steps=steps, support=final.support, answer=final.answer, seed=seed)


@dataclass(frozen=True)
class ChatWriter:
    """Writes by a chat model."""

    chat: ChatModel
    section: ChatConfig
    seed: int
    prompt: Prompt = field(default_factory=lambda: load_prompt("aot.teacher", "rationale.txt"))

    @property
    def name(self) -> str:
        """The model, and the content hash of its prompt."""
        return f"prose:{self.chat.name}:{self.prompt.digest[:6]}"

    def write(
        self, question: Question, steps: tuple[Step, ...], final: FinalAnswer, *, candidate: int, transcript: Transcript
    ) -> str:
        """The model's rationale; one that does not fit is sent back once."""
        supporting = "\n".join(step_text(step) for step in steps if step.index in final.support)
        slots = {
            "question": data_slot("question", "\n".join([question.text, *question.choices])),
            "steps": supporting,
            "answer": data_slot("answer", final.answer),
        }
        messages = [message("user", self.prompt.fill(slots))]
        problem = ""
        for _ in range(TRIES):
            said = self.chat.reply(
                ChatRequest(
                    messages=tuple(messages),
                    sampling=drawn_for(self.section, seed=self.seed, question_id=question.id, candidate=candidate),
                    sample_index=candidate,
                    prompt_digest=self.prompt.digest,
                    purpose="rationale",
                )
            )
            transcript.hear(said, "rationale")
            text = tidied(said.text)
            problem = problem_of(text, question, final)
            if not problem:
                return text
            again = f"{problem} Write the four lines again."
            transcript.turns.append(Turn(role="user", purpose="rationale", text=again))
            messages += [message("assistant", said.text), message("user", again)]
        raise ParseError(f"the chat model wrote no rationale in the four-part form: {problem}")


def tidied(text: str) -> str:
    """A reply from its first part on, one line for each part."""
    rationale = parse_rationale(text)
    return "\n".join(f"{part}: {' '.join(rationale.parts[part].split())}" for part in PARTS if part in rationale.parts)


def problem_of(text: str, question: Question, final: FinalAnswer) -> str:
    """What is wrong with the form of a rationale; empty when nothing is."""
    rationale = parse_rationale(text)
    if rationale.headings != PARTS:
        return f"The lines must begin with {', '.join(f'{part}:' for part in PARTS)}, each once and in this order."
    if parse_answer(rationale.answer, question).value != parse_answer(final.answer, question).value:
        return f"The last line must be `Answer: {final.answer}`."
    return ""
