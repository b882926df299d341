"""Shared by all tests: rows of candidates, made from (URL, caption, query ids)."""

from collections.abc import Callable

import pyarrow as pa
import pytest

from wit.records import CANDIDATES, pair_key

Rows = list[tuple[str, str, list[int]]]


def candidate_table(rows: Rows) -> pa.Table:
    records = [
        {
            "key": pair_key(url, caption),
            "url": url,
            "canonical_url": url,
            "caption": caption,
            "page_url": "http://page.example/",
            "source": "test",
            "source_offset": i,
            "source_index": 0,
            "query_ids": ids,
            "copies": 1,
        }
        for i, (url, caption, ids) in enumerate(rows)
    ]
    return pa.Table.from_pylist(records, schema=CANDIDATES)


@pytest.fixture
def candidates() -> Callable[[Rows], pa.Table]:
    """(URL, caption, query ids) -> records.CANDIDATES."""
    return candidate_table
