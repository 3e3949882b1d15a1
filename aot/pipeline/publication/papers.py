"""What a published folder says in words: the facts behind all papers, the model card and the disclosure notice.

It says what was done and measured. Whether that satisfies a law is not known here, and never claimed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aot.chat.messages import WATERMARK_TOKENS
from aot.config import EMBEDDED_STUDENTS
from aot.display import counted, one_line
from aot.pipeline.publication.chain import BOM, CROISSANT, DATA, LINKS, NOTICE, STUDENT, ChainLink
from aot.records import MetricRow
from aot.reporting.card import card_text
from aot.reporting.load import RunData
from aot.reporting.markdown import code, markdown_text
from aot.served_records import StudentContract, StudentOrigin
from aot.serving.disclosure import sentence_of

NOT_STATED = "not stated"
SOURCES = (
    "Neither Regulation (EU) 2024/1689 nor the code of practice on marking and labelling AI-generated content of June "
    "2026 was read in its own words for this page: secondary pages that summarise both were. Whoever publishes or "
    "serves this student has to find out which duties they have, and whether this is enough. It is no claim of "
    "compliance."
)


@dataclass(frozen=True)
class Facts:
    """What every paper of a published student rests on."""

    data: RunData
    contract: StudentContract
    licences: dict[str, str]
    stated: tuple[str, ...]
    """Whose licences were stated by whoever publishes."""
    publisher: str
    """Empty where it was not stated."""
    made: str
    """When this was published, in UTC."""

    @property
    def origin(self) -> StudentOrigin:
        """Where what the student knows comes from."""
        assert self.contract.origin is not None, "an export that was made for publishing has one"
        return self.contract.origin

    @property
    def run_name(self) -> str:
        """Of the run folder, in one line."""
        return one_line(self.data.run.root.resolve().name)

    @property
    def base_name(self) -> str:
        """Of the base, without the folder that it lies in on this machine."""
        hub = self.data.config.student.hub
        if hub and self.contract.base not in EMBEDDED_STUDENTS:
            return one_line(hub.name)
        return one_line(Path(self.contract.base).name)

    @property
    def most_tokens(self) -> int:
        """Of one reply in the ways that the student was taught."""
        reasons = any(mode != "direct" for mode in self.contract.modes)
        return self.contract.max_rationale_tokens if reasons else self.contract.max_answer_tokens

    @property
    def accuracies(self) -> list[MetricRow]:
        """How often the student was right, in each way of answering, on each split."""
        return [
            row
            for row in self.data.metrics
            if (row.arm, row.metric, row.kind) == (self.contract.arm, "accuracy", "all")
        ]

    @property
    def limits(self) -> tuple[str, ...]:
        """Where the student ends, as far as it was measured, each in one line."""
        return tuple(one_line(sentence) for sentence in self.contract.limits)


def licence_words(facts: Facts) -> str:
    """The licences in a sentence that says which of them were stated."""
    parts = (
        f"{what} {name}{' (as whoever published this stated)' if what in facts.stated else ''}"
        for what, name in facts.licences.items()
    )
    return f"Licences: {', '.join(parts)}."


def watermark_words(facts: Facts) -> str:
    """What is known of watermarks in what this student writes."""
    if facts.most_tokens <= WATERMARK_TOKENS:
        return (
            f"none: a reply has at most {facts.most_tokens} tokens as the student was taught, and summaries of the "
            f"code of practice ask for a watermark in text of more than {WATERMARK_TOKENS} tokens only"
        )
    return (
        f"none unless whoever serves it asks for one (`aot serve --watermark-key-env`): a reply may have "
        f"{facts.most_tokens:,} tokens. Summaries of the code of practice ask for one in free text of more than "
        f"{WATERMARK_TOKENS} tokens; a field of each reply says whether it is longer, and marked"
    )


def disclosure_fields(facts: Facts) -> list[tuple[str, str]]:
    """What readers of EU AI Act Art. 50 look for, field by field."""
    origin = facts.origin
    learned = f"{counted(origin.questions, 'question')}, {counted(origin.rationales, 'rationale')}"
    return [
        ("written by", "a machine; no person reads an answer before it is given, unless whoever serves it arranges it"),
        ("kind of content", "text and choices with probabilities" + (", about clips" if facts.contract.frames else "")),
        ("distilled", "yes" if origin.distilled else "no: it saw no rationale of a teacher"),
        ("teacher", origin.teacher or "none"),
        ("data", f"{origin.data} ({learned})"),
        ("base", f"{facts.base_name}, digest {facts.contract.base_digest}"),
        ("confidence", "calibrated on questions of its own" if facts.contract.calibration else "not calibrated"),
        (
            "machine-readable marking",
            "`aot.origin` in every reply of `aot serve`, `origin` in the contract; not signed",
        ),
        ("visible marking", f"`aot serve --disclose` puts a sentence behind each reply; {NOTICE} has words for people"),
        ("watermark", watermark_words(facts)),
        ("detector", "of that watermark, for whoever has its secret: scripts/check_watermark.py; of the student, none"),
        ("published by", facts.publisher or NOT_STATED),
        ("legal texts", SOURCES),
    ]


def model_card(facts: Facts, chain: Sequence[ChainLink]) -> str:
    """The card of the run, then what Art. 50 asks about, what the folder holds, and the chain as far as to the card."""
    name = facts.licences["student"]
    lines = [
        card_text(facts.data, licence=(name, f"{name}. {licence_words(facts)}")).rstrip(), "",
        "## Disclosure", "", "| field | |", "|---|---|",
        *(f"| {field} | {_cell(field, words)} |" for field, words in disclosure_fields(facts)), "",
        "## This folder", "",
        f"- `{STUDENT}/`: the student, `aot serve {STUDENT}` or any program that reads transformers models.",
        f"- `{DATA}/`: the traces that it learned from, with a data card.",
        f"- `{BOM}`: bill of materials (CycloneDX 1.7). `{CROISSANT}`: the data for machines (Croissant 1.1).",
        f"- `{NOTICE}`: what to tell people whom the student answers.",
        "- `manifest.json`: the hash of every file; `aot publish --check FOLDER` compares them.", "",
        "## Where it comes from", "",
        "Each hash covers the files of its step and the hash of the step before it.", "", "| step | | SHA-256 |",
        "|---|---|---|", *(f"| {link.name} | {LINKS[link.name]} | `{link.sha256}` |" for link in chain), "",
    ]  # fmt: skip
    return "\n".join(lines)


def _cell(field: str, words: str) -> str:
    """Words for a cell of a table; only those of this module, about marking, may have marks of code."""
    if field.endswith(" marking"):
        return "`".join(str(markdown_text(part)) for part in words.split("`"))
    return str(markdown_text(words))


def notice(facts: Facts) -> str:
    """What people should be told whom the student answers."""
    lines = [
        f"# Notice about {markdown_text(facts.contract.name)}", "",
        str(markdown_text(sentence_of(facts.contract))), "",
        f"- Published by: {markdown_text(facts.publisher or NOT_STATED)}.",
        f"- {markdown_text(licence_words(facts))}",
        f"- Watermark: {markdown_text(watermark_words(facts))}.",
        "- Nobody has read all of the data that it learned from, nor all of its answers.",
        "- In medicine, law, finance, hiring, safety, or wherever else an answer decides about people, a person must "
        "review it before anything follows from it.",
        *(f"- {markdown_text(sentence)}" for sentence in facts.limits), "",
        "Whoever puts this student before people tells them, at their first contact at the latest, that a machine "
        f"answers. Every reply of `aot serve` says so in its field {code('aot.origin')}, and with `--disclose` in a "
        "sentence of its text.", "",
        SOURCES, "",
    ]  # fmt: skip
    return "\n".join(lines)
