"""Uploads in parts that a killed process left in a store. They are no files: no listing shows them, and they are paid for.

S3 keeps them for ever. GCS forgets a resumable upload after a week and lists none; HDFS' and this machine's are files whose names
end as `wit.layout.UNFINISHED`, and are removed with others.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from wit.layout import under
from wit.store import fs, lease
from wit.store.patience import patient

SCHEMES = ("s3://", "s3a://")


def sweep(out: str) -> int:
    """Ends the uploads below OUT that were begun before this builder held its lease; returns how many. No worker of this build
    has begun one by then; one of an earlier build that is still at work has its unit made again. A store that refuses costs a
    line on stderr."""
    began = lease.began(out)
    if began is None or not out.startswith(SCHEMES):
        return 0
    store, inner = fs.file_system(under(out, ""))
    bucket, prefix = fs.bucket_and_key(inner)
    try:
        below = [one for one in unfinished(store, bucket) if one["Key"].startswith(prefix)]
        old = [one for one in below if one["Initiated"].timestamp() < began]
        for one in old:
            _end(store, bucket, one)
    except (OSError, NotImplementedError) as error:
        print(f"unfinished uploads below {out} are left, since the store refuses ({error})", file=sys.stderr)
        return 0
    return len(old)


def unfinished(store: Any, bucket: str) -> Iterator[dict[str, Any]]:
    """The uploads in parts to a bucket: Key, UploadId and Initiated of each. Asked for without a prefix, which MinIO takes for a
    whole name."""
    after: dict[str, str] = {}
    while True:
        answer = _call(store, "list_multipart_uploads", Bucket=bucket, **after)
        yield from answer.get("Uploads", ())
        if not answer.get("IsTruncated"):
            return
        after = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}


def _end(store: Any, bucket: str, upload: dict[str, Any]) -> None:
    with contextlib.suppress(FileNotFoundError):  # it has just ended
        _call(store, "abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def _call(store: Any, method: str, **named: str) -> Any:
    return patient(store.call_s3, f"{method} of {named['Bucket']}")(method, **named)
