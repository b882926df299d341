"""The metadata of a published sample: its row in NNNNN.parquet, and its KEY.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from wit.arrays import Ints, as_schema
from wit.images.formats import EXTENSIONS
from wit.records import KEEP

# img2dataset's columns first, then ours.
SAMPLES = pa.schema(
    [
        ("url", pa.string()),
        ("caption", pa.string()),
        ("key", pa.string()),
        ("status", pa.string()),  # always "success": rejected pairs are in dropped/
        ("error_message", pa.string()),  # always null
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("exif", pa.string()),
        ("sha256", pa.string()),  # of the picture as it lies in the tar
        ("image_offset", pa.int64()),  # of the picture's bytes in this shard's tar
        ("image_size", pa.int64()),
        *[
            field
            for field in KEEP
            if field.name
            not in (
                *("url", "caption", "key", "width", "height", "original_width", "original_height", "exif", "sha256"),
                *("tar_offset", "tar_size"),
            )
        ],
    ]
)
NOT_IN_JSON = ("image_offset", "image_size", "raw_shard")  # places, not facts about the sample


def extension_of(image_format: str) -> str:
    """The file extension of a picture's format, without the dot; an unknown format is its own extension."""
    return EXTENSIONS[image_format].extensions[0] if image_format in EXTENSIONS else image_format


def metadata(row: Mapping[str, Any]) -> dict[str, Any]:
    """The content of KEY.json: img2dataset's fields, then ours; digests and hashes as hex."""
    given = dict(row) | {"status": "success", "error_message": None}
    values = {name: given[name] for name in SAMPLES.names if name not in NOT_IN_JSON}
    values["phash"] = None if row["phash"] is None else f"{row['phash']:016x}"
    values["pdq"] = None if row["pdq"] is None else row["pdq"].hex()
    return values


def samples_table(rows: pa.Table, offsets: Ints) -> pa.Table:
    """NNNNN.parquet: one row a sample in the order of the tar."""
    return as_schema(SAMPLES, rows, status="success", image_offset=pa.array(offsets), image_size=rows["tar_size"])
