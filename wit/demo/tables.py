"""The tables that describe the demonstration web, and the committed files that hold them."""

from __future__ import annotations

import functools
import os

import pyarrow as pa
import pyarrow.parquet as pq

from wit.hashing import keyed_hash
from wit.store import fs, parquet

ASSETS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "assets")
SEED = 20_260_101  # of the demonstration web's own choices, not of a build
KEPT = "kept"  # the fate of a pair that reaches the shards; every other fate is a Reason
KEPT_OUT = "twemoji"  # the drawing style of the zero-shot test set: no page shows it, or a style that descends from it

PICTURES = pa.schema(
    [
        ("picture", pa.string()),  # style/subject.format, or with a variant: style/subject@small.format
        ("style", pa.string()),
        ("subject", pa.string()),
        ("title", pa.string()),  # the caption it came with, or null
        ("original", pa.string()),  # the picture that this is another encoding of, or null
        ("role", pa.string()),  # what a special picture is for, or null
        ("format", pa.string()),  # jpg, png, webp, gif
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("data", pa.binary()),
    ]
)

PAGES = pa.schema(
    [
        ("page_url", pa.string()),
        ("title", pa.string()),
        ("base", pa.string()),  # href of <base>, or null
        ("language", pa.string()),
        ("crawl_file", pa.int32()),  # number of the WAT and WARC file that describes it
    ]
)

TAGS = pa.schema(
    [
        ("page_url", pa.string()),
        ("index", pa.int32()),  # of the img tag in its page, from 0
        ("src", pa.string()),  # as written
        ("alt", pa.string()),  # null: no such attribute
        ("url", pa.string()),  # canonical URL of src on this page; null where that is no http address
        ("fates", pa.list_(pa.string())),  # allowed: "kept" or values of Reason
        ("cluster", pa.string()),  # the picture, if several URLs show it; else null
    ]
)

RESOURCES = pa.schema(
    [
        ("url", pa.string()),
        ("kind", pa.string()),  # how it answers: a method of server.Answers
        ("picture", pa.string()),  # the picture that is served, or null
        ("status", pa.int32()),
        ("content_type", pa.string()),  # null: as the picture's format
        ("location", pa.string()),  # of a redirect
        ("headers", pa.string()),  # further response headers, a JSON object, or null
        ("body", pa.binary()),  # the bytes that are served if there is no picture
    ]
)


def pick(purpose: str, item: str, choices: int) -> int:
    """A fixed choice below `choices` for this item."""
    return keyed_hash(SEED, purpose, item) % choices


@functools.cache
def load(name: str) -> pa.Table:
    """One of `pictures`, `pages`, `tags`, `resources`."""
    with parquet.open_file(os.path.join(ASSETS, f"{name}.parquet")) as file:
        return file.read(use_threads=False)  # with threads it holds 30 MB more


def save(name: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    compression = {column: "none" if column == "data" else "zstd" for column in table.column_names}
    repeated = [column for column in table.column_names if column != "data"]
    pq.write_table(table, sink, compression=compression, use_dictionary=repeated, write_statistics=False)
    fs.write_bytes(os.path.join(ASSETS, f"{name}.parquet"), sink.getvalue().to_pybytes())
