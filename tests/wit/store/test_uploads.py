"""Unfinished uploads of S3 below OUT are ended where no worker of this build can have begun them."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from wit.store import lease, uploads

OLD, NEW = (datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2000, 2100))
PAGE = 2


class S3(MemoryFileSystem):  # type: ignore[misc]
    """As much of s3fs as is asked: files in memory, and a list of uploads in pages."""

    protocol = ("s3", "s3a")
    left: list[tuple[str, datetime.datetime]] = []
    refuses: Exception | None = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("s3://").rstrip("/")

    def call_s3(self, method: str, **given: str) -> dict[str, Any]:
        if S3.refuses is not None:
            raise S3.refuses
        assert given["Bucket"] == "bucket"
        if method == "abort_multipart_upload":
            S3.left = [one for one in S3.left if one[0] != given["Key"]]
            return {}
        after = [one for one in sorted(S3.left) if one[0] > given.get("KeyMarker", "")]
        page = [{"Key": key, "UploadId": f"id of {key}", "Initiated": when} for key, when in after[:PAGE]]
        last = after[:PAGE][-1:] and after[:PAGE][-1][0]
        more = {"IsTruncated": len(after) > PAGE, "NextKeyMarker": last, "NextUploadIdMarker": "x"}
        return more | ({"Uploads": page} if page else {})


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> type[S3]:
    monkeypatch.setitem(_registry, "s3", S3)
    monkeypatch.setattr(S3, "left", [(f"set/raw/{n}.tar", OLD) for n in range(5)])
    S3.left += [("set/raw/9.tar", NEW), ("set2/raw/0.tar", OLD), ("other", OLD)]
    return S3


def test_those_below_out_that_were_begun_before_the_lease_are_ended(s3: type[S3]) -> None:
    with lease.held("s3://bucket/set"):
        assert uploads.sweep("s3://bucket/set") == 5
        assert uploads.sweep("s3://bucket/set") == 0
    assert [key for key, _ in s3.left] == ["set/raw/9.tar", "set2/raw/0.tar", "other"]


def test_who_holds_no_lease_ends_none(s3: type[S3]) -> None:
    assert uploads.sweep("s3://bucket/set") == 0 and len(s3.left) == 8


def test_a_store_that_refuses_stops_no_build(
    s3: type[S3], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with lease.held("s3://bucket/set"):
        monkeypatch.setattr(s3, "refuses", PermissionError("Access Denied"))
        assert uploads.sweep("s3://bucket/set") == 0
    assert "the store refuses (Access Denied)" in capsys.readouterr().err
