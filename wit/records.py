"""What flows through a build: the keys of pairs and the Arrow schemas.

One unit is counted throughout, the *pair*: one image reference with its alt text at one place of one page. A pair either
reaches the shards or leaves the build under exactly one `Reason` (design: in = out + dropped, by stage and reason).
"""

from __future__ import annotations

import hashlib

import pyarrow as pa

from wit.errors import InputError as InputError
from wit.errors import Stopped as Stopped
from wit.hashing import keyed_hash as keyed_hash
from wit.reasons import Reason as Reason


def pair_key(canonical_url: str, caption: str) -> str:
    """The first 128 bits of SHA-256 over the length-prefixed canonical URL and caption, as 32 hex digits."""
    url, text = canonical_url.encode(), caption.encode()
    digest = hashlib.sha256(b"%d:%b%d:%b" % (len(url), url, len(text), text))
    return digest.hexdigest()[:32]


CANDIDATES = pa.schema(
    [
        ("key", pa.string()),  # pair_key(canonical_url, caption)
        ("url", pa.string()),  # absolute, as the page means it: what is fetched
        ("canonical_url", pa.string()),  # WHATWG form without fragment: what is compared
        ("caption", pa.string()),  # cleaned
        ("page_url", pa.string()),
        ("source", pa.string()),  # source file
        ("source_offset", pa.int64()),  # byte offset of the record in the source file, or row number in a table
        ("source_index", pa.int32()),  # image number within the record
        ("query_ids", pa.list_(pa.int32())),  # ascending line numbers of the query list
        ("language", pa.string()),  # ISO 639 code, or null where the text is too short to tell
        ("language_score", pa.float32()),
        ("extra", pa.string()),  # further columns of a table source, one JSON object, or null
        ("copies", pa.int32()),  # pairs of this group merged into the row, itself included
    ]
)

CAPTION = pa.struct(
    [
        ("key", pa.string()),
        ("text", pa.string()),
        ("query_ids", pa.list_(pa.int32())),
        ("language", pa.string()),
        ("page_url", pa.string()),
        ("critical_t", pa.float64()),
    ]
)

PLAN = pa.schema(
    [
        ("key", pa.string()),  # of the caption with the smallest critical t
        ("url", pa.string()),
        ("canonical_url", pa.string()),
        ("host", pa.string()),
        ("domain", pa.string()),  # registrable domain
        ("captions", pa.list_(CAPTION)),  # by critical t, then key; at most 16
        ("critical_t", pa.float64()),
        ("source", pa.string()),
        ("source_offset", pa.int64()),
        ("source_index", pa.int32()),
        ("extra", pa.string()),
    ]
)

# One row per planned row, success or not, in the order of the members of the tar: what select reads instead of pixels.
RAW = pa.schema(
    [
        *PLAN,
        ("reason", pa.string()),  # null = success, else a Reason of stage "download"
        ("detail", pa.string()),  # deterministic: no times, addresses or ports
        ("http_status", pa.int32()),
        ("final_url", pa.string()),
        ("tar_offset", pa.int64()),  # of the image's bytes in the raw tar (data, not header); null without image
        ("tar_size", pa.int64()),
        ("format", pa.string()),  # of the stored bytes: jpg, png, webp, ...
        ("original_format", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("sha256", pa.string()),  # of the stored bytes (img2dataset's is of the bytes fetched: original_sha256)
        ("original_sha256", pa.string()),  # of the fetched bytes
        ("phash", pa.uint64()),
        ("pdq", pa.binary(32)),
        ("pdq_quality", pa.int32()),
        ("exif", pa.string()),  # JSON object or null
    ]
)

# All that is kept of a blocked picture: its hash is on a list of what must not be stored (design section 8).
RESTRICTED = pa.schema([("hash", pa.string()), ("list", pa.string()), ("url", pa.string())])

# What varies from run to run, one row per planned row; no comparison of sets reads it (design section 5).
FETCH = pa.schema(
    [
        ("key", pa.string()),
        ("attempts", pa.int32()),
        ("started", pa.timestamp("ms", "UTC")),
        ("duration_s", pa.float32()),
        ("bytes", pa.int64()),  # of the body, decoded
        ("wire_bytes", pa.int64()),  # received for it, all attempts and hops together
        ("error", pa.string()),
    ]
)

DROPPED = pa.schema(
    [
        ("key", pa.string()),  # null where there was no usable URL and caption yet
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("url", pa.string()),
        ("caption", pa.string()),
        ("page_url", pa.string()),
        ("source", pa.string()),
        ("source_offset", pa.int64()),
        ("source_index", pa.int32()),
    ]
)

# One row per fetched picture of a raw shard, in the order of its tar.
SCORES = pa.schema(
    [
        ("key", pa.string()),  # of the pair that was scored: the caption that plan chose
        ("row", pa.int32()),  # in the raw shard's parquet
        ("clip_score", pa.float32()),  # cosine similarity; null where the picture does not decode
    ]
)

# One row per selected sample: where its bytes are and what is written beside them.
KEEP = pa.schema(
    [
        ("key", pa.string()),  # of the caption that is written
        ("raw_shard", pa.string()),  # path of the raw tar, relative to OUT
        ("tar_offset", pa.int64()),
        ("tar_size", pa.int64()),
        ("caption", pa.string()),
        ("captions", pa.list_(CAPTION)),  # union over the cluster of duplicates
        ("cluster_size", pa.int32()),
        ("critical_t", pa.float64()),
        ("clip_score", pa.float32()),  # of picture and caption; null without the score stage, or for another caption
        *[
            field
            for field in RAW
            if field.name not in ("key", "captions", "critical_t", "host", "reason", "detail")
            and not field.name.startswith("tar_")
        ],
    ]
)
