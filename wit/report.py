"""What a person reads after a build: the ledger's tables, one HTML page, the dataset card and its Croissant description."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa
from jinja2 import Environment, StrictUndefined

from wit.arrays import Ints, offsets_of, owners_of
from wit.candidates.passes import Extracted
from wit.images.formats import Format
from wit.ledger import funnel_rows
from wit.store.manifests import File
from wit.tally import Tally

SOURCES = pa.schema(
    [
        ("source", pa.string()),
        ("records", pa.int64()),
        ("pages", pa.int64()),
        ("pairs", pa.int64()),
        ("bytes", pa.int64()),
        ("lost", pa.string()),  # JSON: name of the defect -> records
        ("error", pa.string()),  # why it was not read to its end, or null
        ("unit", pa.string()),  # rows or records; null where an earlier version read it, as is the next one
        (
            "first_bad",
            pa.list_(pa.string()),
        ),  # place and fault of the first that gave nothing, "line 7: 3 cells, not 2"
    ]
)
HOSTS = pa.schema([("host", pa.string()), ("outcome", pa.string()), ("pairs", pa.int64())])
QUERIES = pa.schema(
    [
        ("query", pa.string()),
        ("pairs", pa.int64()),  # memberships before balancing
        ("planned", pa.int64()),
        ("downloaded", pa.int64()),
        ("kept", pa.int64()),
        ("capped", pa.bool_()),  # more pairs than the cap
        ("lacking", pa.int64()),  # pairs below the cap, of a query that was sampled too thinly
        ("enough_oversample", pa.float64()),  # that it would not lack with; null where nothing lacks
    ]
)


def source_reports(groups: Iterable[Extracted]) -> Iterator[dict[str, Any]]:
    """One of each source file, from what candidates say of their groups."""
    for group in groups:
        yield from ({"source": report["path"], **report} for report in group.sources)


def source_table(groups: Iterable[Extracted]) -> pa.Table:
    """One row a source file."""
    rows = [{**r, "lost": json.dumps(r["lost"], sort_keys=True)} for r in source_reports(groups)]
    return pa.Table.from_pylist(rows, schema=SOURCES)


def source_table_of(table: pa.Table) -> pa.Table:
    """One that this or an earlier version wrote, in the form of this one."""
    return pa.Table.from_pylist(table.to_pylist(), schema=SOURCES)


def host_outcomes(raw: Iterable[pa.Table]) -> pa.Table:
    """(host, "downloaded" or the reason, pairs) over tables with columns host and reason."""
    counts: Counter[tuple[str, str]] = Counter()
    for table in raw:
        grouped = table.select(["host", "reason"]).group_by(["host", "reason"]).aggregate([([], "count_all")])
        for row in grouped.to_pylist():
            counts[row["host"], row["reason"] or "downloaded"] += row["count_all"]
    rows = [{"host": host, "outcome": outcome, "pairs": n} for (host, outcome), n in sorted(counts.items())]
    return pa.Table.from_pylist(rows, schema=HOSTS)


def membership_counts(tables: Iterable[pa.Table], queries: int) -> Ints:
    """Rows per query over tables with a `captions` column: a row counts once for each query any of its captions has."""
    total = np.zeros(queries, np.int64)
    for table in tables:
        of_row, captions = offsets_of(table["captions"])
        of_caption, ids = offsets_of(captions.field("query_ids"))
        rows = np.repeat(owners_of(of_row), np.diff(of_caption))
        pairs = np.unique(rows * queries + ids.to_numpy())
        total += np.bincount(pairs % queries, minlength=queries)
    return total


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a query list is covered: counts in bins of powers of ten, and how much the head holds."""

    bins: Sequence[tuple[str, int]]
    empty: int
    capped: int
    share_of_capped: float


def coverage(counts: Ints, cap: float | None) -> Coverage:
    """The shape MetaCLIP publishes: entries without a match, in the tail, and with more matches than the cap, and their share."""
    edges = [10**k for k in range(10)]
    names = [f"{low:,} to {high - 1:,}" for low, high in zip(edges, edges[1:], strict=False)]
    filled = [int(((counts >= low) & (counts < high)).sum()) for low, high in zip(edges, edges[1:], strict=False)]
    last = max((i for i, n in enumerate(filled) if n), default=0)
    over = counts > (cap if cap is not None else np.inf)
    share = float(counts[over].sum() / max(int(counts.sum()), 1))
    return Coverage(list(zip(names, filled, strict=True))[: last + 1], int((counts == 0).sum()), int(over.sum()), share)


def render(template: str, **values: Any) -> bytes:
    """A template of this package, filled; a missing value is an error."""
    source = resources.files("wit").joinpath("templates", template).read_text("utf-8")
    environment = Environment(undefined=StrictUndefined, autoescape=template.endswith("html"), trim_blocks=True)
    environment.filters["thousands"] = lambda n: f"{n:,}"
    environment.filters["percent"] = lambda x: f"{x:.1%}"
    return environment.from_string(source).render(**values).encode()


def page(stages: Mapping[str, Tally], samples: Sequence[Mapping[str, Any]], **facts: Any) -> bytes:
    """report/index.html: self-contained, no script, pictures inline."""
    return render("report.html", funnel=funnel_rows(stages), samples=samples, **facts)


def croissant(name: str, samples: int, shards: Sequence[File], formats: Sequence[Format]) -> dict[str, Any]:
    """The shards, whose pictures are of these formats, as a Croissant 1.0 description (http://mlcommons.org/croissant/1.0)."""
    types, globs = [form.media_type for form in formats], [f"*.{form.extensions[0]}" for form in formats]
    files = [
        {
            "@type": "cr:FileObject",
            "@id": shard.name,
            "name": shard.name,
            "contentUrl": f"shards/{shard.name}",
            "encodingFormat": "application/x-tar",
            "sha256": shard.sha256,
            "contentSize": f"{shard.bytes} B",
        }
        for shard in shards
    ]
    tars = {
        "@type": "cr:FileSet",
        "@id": "tars",
        "name": "tars",
        "containedIn": [{"@id": f["@id"]} for f in files],
        "encodingFormat": types if len(types) > 1 else types[0],
        "includes": globs if len(globs) > 1 else globs[0],
    }
    return {
        "@context": {
            "@vocab": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            "sc": "https://schema.org/",
            "dct": "http://purl.org/dc/terms/",
            "conformsTo": "dct:conformsTo",
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"{samples:,} image-text pairs in WebDataset shards, built by wit.",
        "distribution": [*files, tars],
    }
