"""A snapshot in Croissant 1.1 with the keys of its RAI vocabulary.

The library mlcroissant makes and validates it.
"""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from tasks.datasheet.counts import SPLITS, Facts
from tidemill.engines.config.schema import RecipeConfig, Source
from tidemill.runtime import paths
from tidemill.runtime.files import sha256

if TYPE_CHECKING:
    import mlcroissant as mlc

RAI = "http://mlcommons.org/croissant/RAI/1.0"
FIELDS = {
    "example_id": "Names the row for ever: a hash of its document and its question.",
    "doc_id": "Names the document: a hash of its address, its key or its content.",
    "inputs": "The question, as JSON.",
    "target": "The answer, as JSON.",
    "confidence": "How far the votes on this label agree, 0 to 1.",
    "votes": "Who says what about the label, as JSON.",
    "unit": "What is resampled when two models are compared.",
    "slices": "What the row is judged by besides the whole, as JSON.",
    "source": "The source of conf/source that its document came from.",
}
WEIGHT = {
    "weight": (
        "How much the row counts in training, 0 to 1; rows of valid and test are judged alike "
        "whatever it says."
    )
}


class Naming(TypedDict):
    """Keys of Croissant: what the snapshot is called, and what is said of it as a whole."""

    name: str
    description: str
    license: list[str]
    in_language: list[str] | None
    date_published: str | None
    url: str
    keywords: list[str]
    cite_as: str


class Collection(TypedDict):
    """Keys of RAI: where the data came from, and what of it is missing."""

    data_collection: str
    data_collection_type: list[str]
    data_collection_timeframe: list[str]
    data_collection_raw_data: str
    data_collection_missing_data: str


class Preparation(TypedDict):
    """Keys of RAI: how documents became labelled rows."""

    data_preprocessing_protocol: list[str]
    data_annotation_protocol: str
    machine_annotation_tools: list[str]


class FitUse(TypedDict):
    """Keys of RAI: what the data is fit for, and what must be known of it before."""

    data_biases: list[str]
    data_limitations: list[str]
    data_use_cases: list[str]
    data_social_impact: str | None
    personal_sensitive_information: list[str]
    data_release_maintenance_plan: str


NUMBERS = ("confidence", "weight")  # the columns of numbers; the others are texts


def croissant(
    recipe: RecipeConfig, facts: Facts, about: dict[str, str], sources: dict[str, Source]
) -> str:
    """The description, as JSON-LD. Raises where mlcroissant finds it wrong."""
    # Its loaders would look for data sets of torch's kind: a description needs none of it.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.getLogger("absl").setLevel(logging.ERROR)
    import mlcroissant as mlc

    conforms_to = [mlc._src.core.context.CroissantVersion.V_1_1.value, RAI]
    metadata = mlc.Metadata(
        ctx=mlc.Context(conforms_to=conforms_to),
        conforms_to=conforms_to,
        version="1.0.0",
        creators=[mlc.Organization(name="a Tidemill project")],
        distribution=[_file(recipe, facts, split) for split in SPLITS],
        record_sets=[_records(facts, split) for split in SPLITS],
        **_identity(recipe, facts, sources),
        **_collection(facts, sources),
        **_preparation(recipe),
        **_use(recipe, about),
    )
    if metadata.issues.errors:
        raise ValueError("; ".join(sorted(metadata.issues.errors)))
    return json.dumps(metadata.to_json(), indent=1, ensure_ascii=False, default=str) + "\n"


def _file(recipe: RecipeConfig, facts: Facts, split: str) -> "mlc.FileObject":
    import mlcroissant as mlc

    path = paths.data("splits", recipe.application) / f"{split}.parquet"
    rows = int((facts.examples["split"] == split).sum())
    return mlc.FileObject(
        id=path.name,
        name=path.name,
        content_url=path.name,
        encoding_formats=["application/x-parquet"],
        sha256=sha256(path),
        content_size=f"{path.stat().st_size} B",
        description=f"The {split} rows, {rows:,}.",
    )


def _records(facts: Facts, split: str) -> "mlc.RecordSet":
    import mlcroissant as mlc

    columns = FIELDS if facts.weighted is None else {**FIELDS, **WEIGHT}
    fields = [
        mlc.Field(
            id=f"{split}/{name}",
            name=f"{split}/{name}",
            description=words,
            data_types=mlc.DataType.FLOAT if name in NUMBERS else mlc.DataType.TEXT,
            source=mlc.Source(file_object=f"{split}.parquet", extract=mlc.Extract(column=name)),
        )
        for name, words in columns.items()
    ]
    return mlc.RecordSet(id=split, name=split, description=f"The {split} rows.", fields=fields)


def _identity(recipe: RecipeConfig, facts: Facts, sources: dict[str, Source]) -> Naming:
    name, short = recipe.application, facts.digest[:16]
    languages = sorted(value for value in facts.examples["language"].unique() if value)
    return {
        "name": f"{name}-{short}",
        "description": (
            f"{recipe.summary} The rows of snapshot {facts.digest}, "
            "split into train, valid and test."
        ),
        "license": sorted({str(value) for value in facts.examples["licence"].dropna()}),
        "in_language": languages or None,
        "date_published": facts.fetched[1] or None,
        "url": f"urn:tidemill:{name}:{facts.digest}",
        "keywords": [name, *sorted(sources)],
        "cite_as": f"@misc{{{name}_{short}, title={{{name}, snapshot {short}}}}}",
    }


def _collection(facts: Facts, sources: dict[str, Source]) -> Collection:
    dropped = sum(sum(lost.values()) for _, _, lost in facts.steps)
    crawled = any(source.kind in ("web", "feed") for source in sources.values())
    return {
        "data_collection": "; ".join(
            f"{name} ({source.kind}): {source.licence}" for name, source in sorted(sources.items())
        ),
        "data_collection_type": ["Web Scraping" if crawled else "Existing Datasets"],
        "data_collection_timeframe": [day for day in facts.fetched if day],
        "data_collection_raw_data": (
            "Kept as it came, in data/raw of the project: WARC segments and package originals, "
            "with one manifest over them."
        ),
        "data_collection_missing_data": (
            f"{dropped:,} documents and rows were dropped, each with its reason, "
            "in the dropped.parquet of each step."
        ),
    }


def _preparation(recipe: RecipeConfig) -> Preparation:
    return {
        "data_preprocessing_protocol": [
            "clean: cut into parts, NFC, control characters and runs of white space out",
            "select: without exact and near duplicates",
            "split: by what a row is, never by its position; "
            "a train row that is a copy of a test row is dropped",
        ],
        "data_annotation_protocol": (
            "Labels come from the source and from the recipe's voters; "
            "the column votes has each of them."
        ),
        "machine_annotation_tools": [f"the recipe's voters (recipes/{recipe.application})"],
    }


def _use(recipe: RecipeConfig, about: dict[str, str]) -> FitUse:
    return {
        "data_biases": [about.get("limits", "Not studied beyond the slices that the gates judge.")],
        "data_limitations": [about.get("limits", "Not written down.")],
        "data_use_cases": [about.get("intended use", recipe.summary)],
        "data_social_impact": about.get("out of scope") or None,
        "personal_sensitive_information": [
            "Names of people are not looked for. E-mail and IP addresses, phone and card numbers, "
            "IBANs and keys are replaced where a source says clean.pii."
        ],
        "data_release_maintenance_plan": (
            "A new snapshot is made on a night when its sources changed; "
            "this one stays as it is, by its digest."
        ),
    }


def check(path: Path) -> list[str]:
    """What mlcroissant finds wrong with a description when it reads it again; warnings left out."""
    import mlcroissant as mlc

    try:
        return sorted(mlc.Dataset(jsonld=path).metadata.issues.errors)
    except mlc.ValidationError as error:
        return [str(error)]
