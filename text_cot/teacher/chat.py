"""The teacher that asks a chat model: so many samples of each question, each of them one trace, failed ones included.

Sample k of a question depends on (seed, question, k) and on what the model says. Replies are asked for in a fixed form;
a server that does not know of it is asked without by the client, and whatever comes is read the same way.
"""

import time

from aot.chat.client import ChatModel
from aot.chat.factory import check_chat, sampling_of
from aot.chat.messages import ChatReply, ChatRequest, message
from aot.chat.prompts import Prompt
from aot.chat.spend import cost_of
from aot.config import ChatConfig, SolvingTeacher
from aot.display import storable
from aot.errors import ChatError
from aot.records import Question, Trace, TraceError, Usage
from aot.run_records import ChatUsage
from aot.seeds import hashed
from text_cot.families import Granularity
from text_cot.teacher.chat_prompts import fill, teacher_prompts
from text_cot.teacher.chat_reply import UnreadableReply, read_reply, schema_of
from text_cot.teacher.granularity import Size
from text_cot.teacher.procedural import chain_trace

MAX_ERROR_CHARS = 500
_SEEDS = 2**31
"""Servers take seeds of 32 bits with a sign."""


def check_teacher(teacher: SolvingTeacher, section: ChatConfig) -> None:
    """Look whether the chat teacher can start; asks the model nothing, and loads none.

    Raises:
        ConfigError: a prompt file cannot be used, or the model cannot be asked at all.
    """
    teacher_prompts(teacher)
    check_chat(section)


class ChatTeacher:
    """Writes one trace for a question and a sample index; may be asked from many threads at once."""

    def __init__(
        self,
        model: ChatModel,
        section: ChatConfig,
        teacher: SolvingTeacher,
        *,
        granularity: Size,
        seed: int,
        config_digest: str,
    ) -> None:
        self._model, self._chat, self._seed, self._digest = model, section, seed, config_digest
        self.prompts: dict[Granularity, Prompt] = teacher_prompts(teacher)
        self._granularity, self._calls = granularity, teacher.tools.calculator == "on"
        self._schema = schema_of(teacher.order) if teacher.structured == "auto" else None

    def sample(self, question: Question, sample_index: int) -> Trace:
        """One sample; a failed trace where the model gave no reply, or none that can be read.

        Raises:
            ConfigError: nobody gets a reply.
            GuardStop: the cost limit is reached.
        """
        started = time.monotonic()
        alternates: Granularity = "coarse" if sample_index % 2 == 0 else "fine"
        granularity = alternates if self._granularity == "mixed" else self._granularity
        said: ChatReply | None = None
        try:
            said = self._model.reply(self._request(question, granularity=granularity, sample_index=sample_index))
            chain = read_reply(said.text, reasoning=said.reasoning, question=question)
        except (ChatError, UnreadableReply) as error:
            words = storable(str(error))[:MAX_ERROR_CHARS]
            trace = Trace(
                question_id=question.id, sample_index=sample_index, teacher=self.name, status="failed",
                error=TraceError(boundary=error.boundary, message=words, reason=error.reason),
                config_digest=self._digest,
            )  # fmt: skip
        else:
            trace = chain_trace(
                question.id, chain.steps, chain.answer, teacher=self.name, sample_index=sample_index,
                config_digest=self._digest, calls=self._calls,
            )  # fmt: skip
        usage = self._usage(said, calls=trace.usage.tool_calls, seconds=time.monotonic() - started)
        turns = (said.turn("solve"),) if said else ()
        return trace.model_copy(update={"granularity": granularity, "usage": usage, "turns": turns})

    @property
    def name(self) -> str:
        """What stands in traces as their teacher."""
        return f"chat:{self._model.name}"

    def close(self) -> None:
        """Close the model's connections and files."""
        self._model.close()

    def _request(self, question: Question, *, granularity: Granularity, sample_index: int) -> ChatRequest:
        prompt = self.prompts[granularity]
        seed = hashed(self._seed, question.id, "chat", sample_index) % _SEEDS
        return ChatRequest(
            messages=(message("user", fill(prompt, question)),),
            sampling=sampling_of(self._chat, seed=seed),
            json_schema=self._schema,
            sample_index=sample_index, prompt_digest=prompt.digest, purpose="solve",
        )  # fmt: skip

    def _usage(self, said: ChatReply | None, *, calls: int, seconds: float) -> Usage:
        if said is None:
            return Usage(seconds=seconds)
        tokens = said.usage or ChatUsage()
        cost = cost_of(tokens, self._chat.prices) if said.usage else None
        return Usage(tool_calls=calls, chat_calls=1, **tokens.model_dump(), cost=cost, seconds=seconds)
