"""A store described in Croissant, so that other tools can find and read its records without this project.

Format: Croissant 1.0, https://docs.mlcommons.org/croissant/docs/croissant-spec.html: JSON-LD on schema.org. Described are the
index (a Parquet file with a line per record) with its columns as fields, and the shards of signals as files. Reports are
there as a field by name; no value of any record is in the description. It lies in the store's folder, where its names lead to
files.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from melp_bench.store.index import SCHEMA
from melp_bench.store.layout import StoreManifest

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
VOCABULARY = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
MEANINGS = {
    "record_id": "The record's id in the source.",
    "patient_id": "The patient, where the source tells one.",
    "statements": "What was said of the record, as codes.",
    "report": "The report, as text.",
    "age": "In years.",
    "sex": "F or M.",
    "fold": "1 to 10: 1 to 8 train, 9 validates, 10 is tested.",
    "rate_hz": "Samples per second.",
    "leads": "Names of the leads, in the order of the samples.",
    "num_samples": "Samples of each lead.",
    "shard": "The number of the file that holds the samples.",
    "offset": "Where in it, in samples.",
    "gains": "Millivolts per unit, of each lead.",
}


def croissant(root: Path, manifest: StoreManifest) -> dict[str, Any]:
    """Return the description of the store in `root`, plain JSON-LD."""
    index = root / "index.parquet"
    return {
        "@context": VOCABULARY,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": manifest.name,
        "description": f"Electrocardiograms of {manifest.name}, packed by melp-bench: an index and shards of 16-bit samples.",
        "license": manifest.licence,
        "url": next(iter(re.findall(r"https?://[^\s,;)]+", manifest.citation)), ""),
        "version": _version(manifest.version),
        "citeAs": manifest.citation,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "index.parquet",
                "name": "index.parquet",
                "description": "A line per record.",
                "contentUrl": "index.parquet",
                "encodingFormat": "application/x-parquet",
                "sha256": _sha256(index),
            },
            *(
                {
                    "@type": "cr:FileObject",
                    "@id": f"shards/{path.name}",
                    "name": path.name,
                    "description": "Samples, 16-bit signed little-endian, lead after lead.",
                    "contentUrl": f"shards/{path.name}",
                    "encodingFormat": "application/octet-stream",
                    "sha256": _sha256(path),
                }
                for path in sorted((root / "shards").glob("*.i16"))
            ),
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "records",
                "name": "records",
                "key": {"@id": "records/record_id"},
                "field": [_field(column) for column in SCHEMA if not pa.types.is_map(column.type)],
            }
        ],
    }


def _field(column: pa.Field) -> dict[str, Any]:
    repeated = pa.types.is_list(column.type)
    return {
        "@type": "cr:Field",
        "@id": f"records/{column.name}",
        "name": column.name,
        "description": MEANINGS.get(column.name, f"Column {column.name} of the index."),
        "dataType": _data_type(column.type.value_type if repeated else column.type),
        "source": {"fileObject": {"@id": "index.parquet"}, "extract": {"column": column.name}},
    } | ({"repeated": True} if repeated else {})


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"


def _version(given: str) -> str:
    """Return a version as MAJOR.MINOR.PATCH, which the format wants."""
    numbers = re.findall(r"\d+", given)[:3]
    return ".".join([*numbers, *["0"] * (3 - len(numbers))])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
