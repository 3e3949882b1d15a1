"""The bill of materials of a published student, as CycloneDX 1.7 writes down machine-learning models (ML-BOM).

Plain JSON of https://cyclonedx.org/docs/1.7/json/, so that publishing needs no further package; the official schema
checks it (aot.pipeline.publication.validators). Figures of energy are not in here.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from aot import __version__
from aot.display import one_line
from aot.pipeline.publication.chain import DATA, STUDENT, ChainLink
from aot.pipeline.publication.licences import SPDX, address_of
from aot.pipeline.publication.papers import NOT_STATED, Facts, disclosure_fields
from aot.run_records import FileEntry

Json = dict[str, Any]
_SPACE = uuid.UUID("5b1c9a34-6c0a-5e0e-9d51-2f0e3f0c7a11")
"""Of serial numbers, which follow from the chain: the same publication has the same one."""


def bill_of_materials(facts: Facts, entries: Sequence[FileEntry], chain: Sequence[ChainLink]) -> Json:
    """The whole document.

    Args:
        facts: what all papers rest on.
        entries: the files of the folder that are there already.
        chain: as far as to the student.
    """
    parts = [_base(facts), *_teacher(facts), _source(facts), _traces(facts, entries), *_packages(facts.data.provenance)]
    refs = [part["bom-ref"] for part in parts]
    serial = uuid.uuid5(_SPACE, chain[-1].sha256)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": facts.made,
            "tools": {"components": [{"type": "application", "name": "aot-distill", "version": __version__}]},
            **({"supplier": {"name": one_line(facts.publisher)}} if facts.publisher else {}),
            "component": _student(facts, entries, chain),
            "properties": [_property(f"chain:{link.name}", link.sha256) for link in chain],
        },
        "components": parts,
        "dependencies": [{"ref": "student", "dependsOn": refs}, *({"ref": ref} for ref in refs)],
    }


def json_text(value: Json) -> str:
    """JSON that may stand in any page: ASCII, and without a character that begins a tag."""
    text = json.dumps(value, indent=1, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026") + "\n"


def _student(facts: Facts, entries: Sequence[FileEntry], chain: Sequence[ChainLink]) -> Json:
    contract = facts.contract
    weights = [one for one in entries if one.name.startswith(f"{STUDENT}/") and one.name.endswith(".safetensors")]
    adapter = [one for link in chain if link.name == "adapter" for one in link.files if one.place == "run"]
    return {
        "type": "machine-learning-model",
        "bom-ref": "student",
        "name": one_line(contract.name),
        "version": contract.digest(),
        "description": f"A student of {facts.run_name}: {facts.data.learning.what(contract.arm)}.",
        "licenses": _licences(facts, "student"),
        "pedigree": {"ancestors": [{"type": "machine-learning-model", "name": facts.base_name}]},
        "components": [
            *(_file(one) for one in weights),
            *({**_file(one), "description": "What was learned; merged into the weights."} for one in adapter),
        ],
        "modelCard": _card(facts),
        "properties": [
            *(_property(f"disclosure:{name}", words) for name, words in disclosure_fields(facts)),
            _property("contract:config_digest", contract.config_digest),
            _property("contract:template_hash", contract.template_hash),
        ],
    }


def _card(facts: Facts) -> Json:
    contract = facts.contract
    shown = ["text", *(["frames of a clip, each with its time"] if contract.frames else [])]
    return {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": f"answering questions of these kinds: {', '.join(map(one_line, contract.kinds))}",
            "architectureFamily": "transformer",
            "modelArchitecture": one_line(contract.model_type),
            "datasets": [{"ref": "traces"}],
            "inputs": [{"format": what} for what in shown],
            "outputs": [{"format": "text"}, {"format": "a probability for each allowed answer"}],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {
                    "type": "accuracy",
                    "value": f"{row.value:.6f}",
                    "slice": one_line(f"{row.split}, answered by {row.mode}, n={row.n}"),
                    "confidenceInterval": {"lowerBound": f"{row.low:.6f}", "upperBound": f"{row.high:.6f}"},
                }
                for row in facts.accuracies
            ]
        },
        "considerations": {
            "users": ["people who evaluate small models", "whoever serves it and tells people that a machine answers"],
            "useCases": ["questions of the kinds that it was trained on, about such data as it was trained on"],
            "technicalLimitations": [*facts.limits, "It can be wrong while sounding sure."],
            "ethicalConsiderations": [
                {
                    "name": "It may have inherited stereotypes and mistakes of its base, its teacher and its data.",
                    "mitigationStrategy": "A person reviews every answer that decides about people.",
                }
            ],
        },
    }


def _base(facts: Facts) -> Json:
    hub = facts.data.config.student.hub
    version = hub.revision if hub and hub.name == facts.base_name else facts.contract.base_digest
    return {
        "type": "machine-learning-model",
        "bom-ref": "base",
        "name": facts.base_name,
        "version": one_line(version or facts.contract.base_digest),
        "description": "The model that the student was before it learned.",
        "licenses": _licences(facts, "base"),
        "properties": [_property("base_digest", facts.contract.base_digest)],
    }


def _teacher(facts: Facts) -> list[Json]:
    """Who wrote the rationales; none for a student that saw none."""
    if not facts.origin.teacher:
        return []
    is_model = facts.origin.teacher.startswith("the language model")
    return [
        {
            "type": "machine-learning-model" if is_model else "application",
            "bom-ref": "teacher",
            "name": facts.origin.teacher,
            "description": "Wrote the rationales that the student learned from; nothing of it is in this folder.",
        }
    ]


def _source(facts: Facts) -> Json:
    counts = ", ".join(f"{count} {what}" for what, count in facts.data.question_counts())
    return {
        "type": "data",
        "bom-ref": "questions",
        "name": facts.origin.data,
        "description": f"The questions that were asked: {one_line(counts)}.",
        "licenses": _licences(facts, "data"),
        "data": [{"type": "dataset", "name": facts.origin.data, **_governance(facts)}],
    }


def _traces(facts: Facts, entries: Sequence[FileEntry]) -> Json:
    files = [one for one in entries if one.name.startswith(f"{DATA}/") and one.name.endswith(".parquet")]
    funnel = facts.data.funnel
    kept = f"{funnel.kept} of {funnel.traces} traces passed the filters. " if funnel else ""
    return {
        "type": "data",
        "bom-ref": "traces",
        "name": f"Traces and lessons of {facts.run_name}",
        "description": f"{kept}Written by an automatic teacher, kept by automatic filters; nobody has read them all.",
        "licenses": _licences(facts, "data"),
        "components": [_file(one) for one in files],
        "data": [
            {
                "type": "dataset",
                "name": f"Traces and lessons of {facts.run_name}",
                "contents": {"url": f"{DATA}/"},
                "sensitiveData": ["Not searched for: whoever publishes knows what the questions hold."],
                **_governance(facts),
            }
        ],
    }


def _governance(facts: Facts) -> Json:
    owner = one_line(facts.publisher) or NOT_STATED
    return {"governance": {"custodians": [{"organization": {"name": owner}}]}}


def _packages(provenance: Mapping[str, Any]) -> list[Json]:
    """What the run was computed with, as it noted itself."""
    versions = provenance.get("versions")
    named = versions.items() if isinstance(versions, dict) else ()
    return [
        {
            "type": "library",
            "bom-ref": f"package-{number}",
            "name": one_line(str(name)),
            "version": one_line(str(version)),
            "scope": "excluded",
            "description": "Trained or evaluated the student; not needed to read this folder.",
        }
        for number, (name, version) in enumerate(named)
    ]


def _licences(facts: Facts, what: str) -> list[Json]:
    name = facts.licences[what]
    named = {"id": name, "url": address_of(name)} if name in SPDX.values() else {"name": name}
    return [{"license": {**named, "acknowledgement": "declared"}}]


def _file(entry: FileEntry | Any) -> Json:  # noqa: ANN401 - or a ChainFile, which says the same and where it lies
    return {
        "type": "file",
        "bom-ref": f"file-{entry.sha256[:16]}-{one_line(entry.name)}",
        "name": one_line(entry.name),
        "hashes": [{"alg": "SHA-256", "content": entry.sha256}],
    }


def _property(name: str, value: str) -> Json:
    return {"name": f"aot-distill:{name}", "value": one_line(value)}
