"""First come, first served: a file that only one of many callers makes."""

from __future__ import annotations

import os
from typing import Any

from wit.store import fs, patience


def claim(path: str, data: bytes) -> bool:
    """Creates `path` with `data` unless it exists; False if somebody was first. Exactly one of many racing callers wins:
    link(2) locally, `If-None-Match: *` on S3, generation 0 on GCS."""
    store, inner = fs.file_system(path)
    if not fs.is_local(path):
        return _claim_there(store, inner, data)
    with fs.temporary(inner) as temporary:
        fs.write_through(temporary, [data])
        try:
            os.link(temporary, inner)
        except FileExistsError:
            return False
    return True


def _claim_there(store: Any, inner: str, data: bytes) -> bool:
    """`claim` in a store. Where an answer was lost, what stands there says whose it is."""
    tries = 0

    def create() -> bool:
        nonlocal tries
        tries += 1
        try:
            store.pipe_file(inner, data, mode="create")
        except Exception as error:
            if patience.may_pass(error) or not store.exists(inner):
                raise
            return tries > 1 and bytes(store.cat_file(inner)) == data
        return True

    return patience.patient(create, inner)()
