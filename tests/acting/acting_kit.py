"""A student that says what a script says, through the real decoding, and small tools of its own."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from pydantic import Field
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import DynamicCache, PreTrainedTokenizerFast

from aot.acting.act import Acted, Actor
from aot.config import StudentConfig
from aot.errors import ToolError
from aot.records import Finding, Question
from aot.student.model.loading import Student
from aot.student.rows.tokens import Renderer
from aot.teacher.bench import Bench, Budget
from aot.teacher.tools.base import Tool, ToolArguments, ToolContext, ToolResult

sys.path.insert(0, str(Path(__file__).parents[1] / "student"))

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.role == 'assistant' %}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CONTEXT = 4096


class SumArguments(ToolArguments):
    terms: tuple[int, ...] = Field(min_length=1, max_length=9)


class SumResult(ToolResult):
    value: str
    about: str = ""

    def findings(self, arguments: SumArguments) -> tuple[Finding, ...]:
        asked = " + ".join(map(str, arguments.terms))
        return (Finding(kind="text", how="answered", text=self.value, question=asked),)


def _add(arguments: SumArguments, context: ToolContext) -> SumResult:
    return SumResult(value=str(sum(arguments.terms)))


class SearchArguments(ToolArguments):
    words: str


class SearchResult(ToolResult):
    cards: tuple[str, ...]

    def findings(self, arguments: SearchArguments) -> tuple[Finding, ...]:
        return tuple(Finding(kind="text", how="seen", text=card) for card in self.cards)


class ShareArguments(ToolArguments):
    by: int


def _share(arguments: ShareArguments, context: ToolContext) -> SumResult:
    return SumResult(value=str(12 // arguments.by))


def search_tool(cards: Sequence[str]) -> Tool[SearchArguments, SearchResult]:
    """Finds the cards that hold some words."""

    def run(arguments: SearchArguments, context: ToolContext) -> SearchResult:
        if arguments.words == "fail":
            raise ToolError("the book is closed")
        return SearchResult(cards=tuple(card for card in cards if arguments.words in card))

    return Tool("search", "1", "Find cards.", SearchArguments, SearchResult, run, "subtitles")


ADD = Tool("add", "1", "Add numbers.", SumArguments, SumResult, _add, "subtitles")
SHARE = Tool("share", "1", "Share twelve.", ShareArguments, SumResult, _share, "subtitles")


def bench_of(*, cards: Sequence[str] = ("red soup", "green soup"), **budget: Any) -> Bench:
    tools = {tool.name: tool for tool in (ADD, SHARE, search_tool(cards))}
    return Bench(tools=tools, budget=Budget(**{"max_calls": 6, "time_limit_s": 60.0, "max_turns": 8, **budget}))


def asked(*names: str) -> list[Question]:
    """One question for each name, which its text holds."""
    return [
        Question(id=name, dataset="d", split="test", kind="sum", text=f"How much is <{name}>?", answer="7",
                 answer_type="integer", group=name)
        for name in names
    ]  # fmt: skip


def byte_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """A token for each byte, so that everything can be written."""
    special = ["<pad>", "<unk>", "<user>", "<assistant>", "<end>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({token: i for i, token in enumerate([*special, *alphabet])}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("."), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>"], chat_template=template, clean_up_tokenization_spaces=False,
    )  # fmt: skip


class Scripted(torch.nn.Module):
    """A language model whose next token depends on all tokens before it, by a script of replies for each question.

    Its cache holds the ids that it was shown, so nothing but what was really read on in it can steer a reply.
    """

    def __init__(self, renderer: Renderer, script: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self._renderer, self._script = renderer, script
        text = SimpleNamespace(max_position_embeddings=CONTEXT, vocab_size=300, num_attention_heads=1)
        self.config = SimpleNamespace(model_type="llama", get_text_config=lambda: text)
        self.dtype = torch.float32
        self._mark = int(renderer.tokenizer.convert_tokens_to_ids("<assistant>"))
        self._known: dict[tuple[int, ...], list[tuple[int, ...]]] = {}

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = True,
        logits_to_keep: int = 0,
    ) -> Any:
        cache = DynamicCache() if past_key_values is None else past_key_values
        keys, _ = cache.update(input_ids[:, None, :, None].float(), input_ids[:, None, :, None].float(), 0)
        every, width = keys[:, 0, :, 0].long(), input_ids.shape[1]
        kept = logits_to_keep or width
        logits = torch.zeros(len(every), kept, 300)
        for row, ids in enumerate(every):
            for place in range(kept):
                end = len(ids) - kept + place + 1
                before = ids[:end][attention_mask[row, :end].bool()].tolist()
                logits[row, place, self._next(before)] = 1.0
        return SimpleNamespace(logits=logits, past_key_values=cache)

    def _next(self, ids: list[int]) -> int:
        end, mark = self._renderer.end_ids[0], self._mark
        if mark not in ids:
            return int(sum((i + 1) * token for i, token in enumerate(ids)) % 290)
        replies = self._replies(tuple(ids[: ids.index(mark)]))
        so_far = ids[len(ids) - ids[::-1].index(mark) :]
        reply = replies[min(ids.count(mark), len(replies)) - 1]
        return reply[len(so_far)] if tuple(so_far) == reply[: len(so_far)] and len(so_far) < len(reply) else end

    def _replies(self, prompt: tuple[int, ...]) -> list[tuple[int, ...]]:
        if prompt not in self._known:
            name = re.search(r"<(\w+)>\?", str(self._renderer.tokenizer.decode(prompt)))
            said = self._script[name[1]] if name else [""]
            self._known[prompt] = [self._renderer.completion_ids(one) for one in said]
        return self._known[prompt]


def scripted(script: Mapping[str, Sequence[str]], *, template: str = TEMPLATE, **config: Any) -> Student:
    """A student whose replies to the question of each name are these, turn by turn; the last one again and again."""
    tokenizer = byte_tokenizer(template)
    renderer = Renderer(tokenizer)
    settings = StudentConfig(base="scripted", **{"max_tokens": CONTEXT, "max_rationale_tokens": 900, **config})
    return Student(Scripted(renderer, script), tokenizer, renderer, settings, torch.device("cpu"), "")


def acted(script: Mapping[str, Sequence[str]], *, bench: Bench | None = None, **config: Any) -> dict[str, Acted]:
    """What comes of one batch with a question for each name of a script."""
    actor = Actor(scripted(script, **config), bench or bench_of(), "arm")
    items = list(actor.items(asked(*script)))
    return dict(zip(script, actor.act(items), strict=True))


def call(name: str, **arguments: Any) -> str:
    from aot.student.rows.prompts import call_text

    return call_text(name, arguments)


WORDS = (
    "What is Answer name add arguments terms value about calculator expression error no tool there Use the tools then "
    "answer directly Reason Choose how to At once Short steps All explain"
)


def word_tokenizer(more: str = "") -> PreTrainedTokenizerFast:
    """One token for each word, tag, mark, digit and blank, with all that calls and results of sums are made of."""
    special = ["<pad>", "<unk>", "<user>", "<assistant>", "<end>"]
    tags = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
    vocab = dict.fromkeys([*special, *tags, *WORDS.split(), *'0123456789+-*/=.,:?;{}[]"() \n', *more.split()])
    made = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocab)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"</?tool_\w+>|[A-Za-z]+|\d|\s|[^\w\s]"), "isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>"], chat_template=TEMPLATE, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def save_word_base(folder: Path, *, more: str = "") -> Path:
    """A tiny random model with that tokenizer, which knows `more` words."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = word_tokenizer(more)
    config = LlamaConfig(
        hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=1024, vocab_size=len(tokenizer), pad_token_id=0, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=True, initializer_range=0.1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
