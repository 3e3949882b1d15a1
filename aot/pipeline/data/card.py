"""README.md of an exported data set: its head is what `datasets` loads it by, the rest is for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from aot.config import RunConfig
from aot.display import counted
from aot.reporting.markdown import code, markdown_text
from aot.run_records import Funnel
from aot.student.model.licence import licences_of

TRACES, LESSONS, QUESTIONS = "traces", "lessons", "questions"
"""Kinds of configuration."""
DISCLOSURE = (
    "Rationales and answers were written by an automatic teacher and kept by automatic filters; nobody has read them "
    "all. They can be wrong while sounding sure. A model that is trained on them imitates that teacher."
)
COLUMNS = {
    "question_id": "the question; rows of one question have the same",
    "dataset, split, kind": "where it comes from, in which split it stands, and what kind of question it is",
    "group": "questions of one group never stand in two splits; hold whole groups out",
    "question, choices": "as it is asked; options where it has some",
    "answer, answer_type": "the gold answer, and how it is compared",
    "messages": "the chat: `role` and `content`; with pictures `content` has parts, an image part for each of `images`",
    "prompt, completion": "the same chat in two parts, so that the loss is of the completion alone",
    "conversations": "the same chat as `from` and `value`, with `<image>` where a picture stands (LLaMA-Factory)",
    "images": "paths of the shown frames in this folder, in the order of their times",
    "image_times_s": "the true time of each frame in its clip, in seconds",
    "clip, clip_start_s, clip_end_s": "the clip, relative to the folder of clips, and the stretch that may be seen",
    "rationale": "the reasoning, in the notation of the teacher; `[1]` cites step 1 of the evidence",
    "evidence": "steps of the trace: text, or tool call with what the tool says it made out (`arguments`, `findings`: "
    "JSON), the stretch and the frames it looked at",
    "support": "the steps that the answer rests on",
    "teacher, sample, teacher_answer": "who wrote the trace, which candidate it is, and its own answer",
    "arm, mode": "for which student the lesson was made, and what it is asked for",
    "weights": "where each part of the completion stands, in characters, and its weight in the loss",
}


@dataclass(frozen=True)
class Part:
    """One configuration of the data set."""

    name: str
    kind: str
    """`traces`, `lessons` or `questions`."""
    counts: Mapping[str, int]
    """Rows by split."""
    refused: Mapping[str, int]
    """Rows that were left out, by reason."""
    columns: tuple[str, ...]


def card_of(
    config: RunConfig,
    parts: Sequence[Part],
    *,
    title: str,
    teachers: Sequence[str],
    funnel: Funnel | None,
    images: int,
    licence: str = "",
) -> str:
    """The whole card; `licence` is that of the data where their source names none."""
    licence = licence or licences_of(config.student.base, config.data.dataset)["data"]
    lines = [
        _head(parts, title, licence),
        "",
        f"# {markdown_text(title)}",
        "",
        *_what(parts, _first_of(config, parts), images),
    ]
    lines += ["", "## Rows", "", "| configuration | split | rows | left out |", "|---|---|---|---|"]
    for part in parts:
        left = ", ".join(f"{reason} {count}" for reason, count in part.refused.items()) or "none"
        lines += [f"| {code(part.name)} | {code(split)} | {count} | {left} |" for split, count in part.counts.items()]
    lines += ["", "## Teacher and filters", "", f"Teacher: {', '.join(map(code, teachers)) or 'none'}, planner "
              f"{code(config.teacher.planner)}.", *_funnel(funnel)]  # fmt: skip
    lines += [
        "", "## Licences", "",
        f"Data set {code(config.data.dataset)}: {code(licence)}. `unknown` means that no file says it: fill "
        "it in before you pass this folder on. What a chat model wrote may stand under terms of its maker.",
        "", "## Columns", "",
    ]  # fmt: skip
    there = {column for part in parts for column in part.columns}
    lines += [f"- `{names}`: {words}." for names, words in COLUMNS.items() if there & set(names.split(", "))]
    lines += ["", "## Disclosure", "", DISCLOSURE, ""]
    return "\n".join(lines)


def llama_factory(parts: Sequence[Part]) -> dict[str, object]:
    """What LLaMA-Factory needs to know of local data sets, as `dataset_info.json` in its `dataset_dir`."""
    entries: dict[str, object] = {}
    for part in parts:
        if part.kind == QUESTIONS:
            continue
        shows = "conversations" in part.columns
        column = "conversations" if shows else "messages"
        names = ("from", "value", "human", "gpt") if shows else ("role", "content", "user", "assistant")
        tags = ("role_tag", "content_tag", "user_tag", "assistant_tag")
        columns = {"messages": column} | ({"images": "images"} if "images" in part.columns else {})
        entries[part.name] = {
            "file_name": part.name, "formatting": "sharegpt", "columns": columns,
            "tags": dict(zip(tags, names, strict=True)),
        }  # fmt: skip
    return entries


def _head(parts: Sequence[Part], title: str, licence: str) -> str:
    configs = [
        {
            "config_name": part.name,
            "data_files": [{"split": split, "path": f"{part.name}/{split}-*.parquet"} for split in part.counts],
            **({"default": True} if number == 0 else {}),
        }
        for number, part in enumerate(parts)
    ]
    head = {"license": licence.lower(), "pretty_name": title, "tags": ["reasoning", "distillation"], "configs": configs}
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---"


def _what(parts: Sequence[Part], first: str, images: int) -> list[str]:
    names = ", ".join(code(part.name) for part in parts)
    lines = [
        "Kept traces of a teacher, and the lessons that students of one run were taught from them. Configurations: "
        f"{names}.", "", "```python", "from datasets import load_dataset", "",
        f'rows = load_dataset("THIS_FOLDER", "{first}")',
        "```", "",
        "TRL's `SFTTrainer` and LLaMA-Factory (`dataset_dir`: this folder) read the rows as they are.",
    ]  # fmt: skip
    if images:
        lines.append(
            f"{counted(images, 'frame')} lie as files under `images/`, each once; their paths are relative to this "
            "folder, so train from within it, or put the folder before them."
        )
    if not any(part.kind == QUESTIONS for part in parts):
        lines.append("Only the train split was written: no question or answer of a test split is in here.")
    return lines


def _first_of(config: RunConfig, parts: Sequence[Part]) -> str:
    """The configuration that a reader is shown first: lessons of the first arm that learns rationales."""
    arms = {f"lessons-{arm.name}" for arm in config.train.arms if arm.learns_rationales}
    lessons = [part.name for part in parts if part.kind == LESSONS]
    return next((name for name in lessons if name in arms), (lessons or [parts[0].name])[0])


def _funnel(funnel: Funnel | None) -> list[str]:
    if funnel is None:
        return []
    lines = [
        f"Of {funnel.traces} traces {funnel.verified} had the right answer, and {funnel.kept} were kept.", "",
        "| filter | reason | first problem of | problem of |", "|---|---|---|---|",
    ]  # fmt: skip
    return lines + [f"| {code(row.filter)} | {code(row.reason)} | {row.first} | {row.any} |" for row in funnel.reasons]
