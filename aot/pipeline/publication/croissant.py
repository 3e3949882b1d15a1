"""The traces for machines, as Croissant 1.1 describes data sets (https://docs.mlcommons.org/croissant).

Files with their hashes, one record set for each configuration with its plain columns, and the fields of responsible AI
(RAI 1.0). Columns of nested rows, such as messages, are described by the data card; frames are files of their own and
are listed by the manifest. The package `mlcroissant` checks it (aot.pipeline.publication.validators).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from aot.display import one_line
from aot.pipeline.data.card import COLUMNS, DISCLOSURE
from aot.pipeline.publication.chain import DATA, ChainLink
from aot.pipeline.publication.licences import address_of
from aot.pipeline.publication.papers import NOT_STATED, Facts
from aot.run_records import FileEntry

Json = dict[str, Any]
CONTEXT: Json = {
    "@language": "en", "@vocab": "https://schema.org/", "arrayShape": "cr:arrayShape", "citeAs": "cr:citeAs",
    "column": "cr:column", "conformsTo": "dct:conformsTo", "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty", "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5",
    "name": {"@container": "@language"}, "parentField": "cr:parentField", "path": "cr:path",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "samplingRate": "cr:samplingRate", "sc": "https://schema.org/",
    "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
"""Of JSON-LD, as the specification gives it."""
_TYPES = {"string": "sc:Text", "int64": "sc:Integer", "double": "sc:Float", "bool": "sc:Boolean"}
"""Of Parquet columns that hold one plain value in each row."""


def croissant_of(facts: Facts, folder: Path, entries: Sequence[FileEntry], chain: Sequence[ChainLink]) -> Json:
    """The whole document about the Parquet files in the published `folder`."""
    files = [one for one in entries if one.name.startswith(f"{DATA}/") and one.name.endswith(".parquet")]
    author = {"@type": "sc:Organization", "name": one_line(facts.publisher) or NOT_STATED}
    lessons = next(link for link in chain if link.name == "lessons")
    title = f"Traces and lessons of {facts.run_name}"
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": title,
        "description": f"{DISCLOSURE} Source of the questions: {facts.origin.data}.",
        "license": address_of(facts.licences["data"]),
        "url": f"urn:sha256:{lessons.sha256}",
        "version": "1.0.0",
        "datePublished": facts.made[:10],
        "creator": author,
        "publisher": author,
        "citeAs": f"{title}, {facts.made[:4]}, urn:sha256:{lessons.sha256}",
        "keywords": ["reasoning", "distillation", "synthetic"],
        **_responsible(facts),
        "distribution": [_file(one) for one in files],
        "recordSet": [_records(folder, one) for one in files],
    }


def _responsible(facts: Facts) -> Json:
    frames = " The frames are those of the clips that the questions are about." if facts.data.has_frames else ""
    filters = sorted({row.filter for row in facts.data.funnel.reasons}) if facts.data.funnel else []
    return {
        "rai:dataCollection": f"Questions of {facts.origin.data} were answered with a written rationale by "
        f"{facts.origin.teacher or facts.data.config.teacher.planner}.{frames}",
        "rai:dataCollectionType": ["Synthetic: written by an automatic teacher"],
        "rai:dataAnnotationProtocol": [
            "No person labelled or read all of it. Kept were traces that passed automatic filters: "
            f"{', '.join(map(one_line, filters)) or 'none that refused any'}."
        ],
        "rai:machineAnnotationTools": [one_line(facts.data.config.teacher.planner), *map(one_line, filters)],
        "rai:dataLimitations": [
            "Rationales can be wrong though their answer is right.",
            "It covers only such questions as its source has, and of those only what the teacher could solve.",
        ],
        "rai:dataBiases": ["Not measured for this data set; those of the teacher and of the source are in it."],
        "rai:personalSensitiveInformation": ["Not searched for; it holds what its source holds."],
        "rai:dataUseCases": ["Training of small models on such questions, and research on how they learn from it."],
        "rai:dataSocialImpact": "A model that is trained on it imitates an automatic teacher, mistakes included; "
        "answers that decide about people need review by a person.",
    }


def _file(entry: FileEntry) -> Json:
    return {
        "@type": "cr:FileObject",
        "@id": entry.name,
        "name": one_line(entry.name),
        "contentUrl": entry.name,
        "contentSize": f"{entry.size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": entry.sha256,
    }


def _records(folder: Path, entry: FileEntry) -> Json:
    """One configuration in one split, with the columns that hold plain values or lists of them."""
    import pyarrow.parquet as pq

    part, split = entry.name.split("/")[1], Path(entry.name).name.partition("-")[0]
    name = f"{part}-{split}"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"Rows of {part} in the split {split}; the data card describes nested columns.",
        "field": list(_fields(pq.read_schema(folder / entry.name), entry, name)),
    }


def _fields(schema: Iterable[Any], entry: FileEntry, record_set: str) -> Iterable[Json]:
    says = {one: words for names, words in COLUMNS.items() for one in names.split(", ")}
    for column in schema:
        is_list = str(column.type).startswith("list<")
        kind = _TYPES.get(str(column.type.value_type if is_list else column.type))
        if kind is None:
            continue
        yield {
            "@type": "cr:Field",
            "@id": f"{record_set}/{column.name}",
            "name": column.name,
            "description": says.get(column.name, column.name),
            "dataType": kind,
            **({"isArray": True, "arrayShape": "-1"} if is_list else {}),
            "source": {"fileObject": {"@id": entry.name}, "extract": {"column": column.name}},
        }
