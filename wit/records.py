"""What flows through a build: every `Reason` a pair can be lost, the keys, the keyed hashes and the Arrow schemas.

One unit is counted throughout, the *pair*: one image reference with its alt text at one place of one page. A pair either
reaches the shards or leaves the build under exactly one `Reason` (design: in = out + dropped, by stage and reason).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

SCHEMA_VERSION = 1  # part of every fingerprint: raise it when a table below changes, and old parts are rebuilt

STAGES = ("candidates", "plan", "download", "score", "select", "publish", "report")


class Reason(StrEnum):
    """Every way a pair can be lost. The value is what tables hold; `stage` says where it happens; `transient` losses
    may succeed another day (they are what `--retry-failed` retries and what the outage rule watches)."""

    stage: str
    transient: bool

    def __new__(cls, value: str, stage: str, transient: bool = False) -> Reason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.stage = stage
        member.transient = transient
        return member

    # candidates: what is known from the page alone
    URL_MISSING = "url_missing", "candidates"
    URL_INLINE = "url_inline", "candidates"  # data: and blob: hold no address to fetch
    URL_INVALID = "url_invalid", "candidates"
    URL_SCHEME = "url_scheme", "candidates"  # neither http nor https
    URL_TOO_LONG = "url_too_long", "candidates"
    CAPTION_MISSING = "caption_missing", "candidates"  # no alt attribute at all
    CAPTION_EMPTY = "caption_empty", "candidates"
    CAPTION_TOO_SHORT = "caption_too_short", "candidates"
    CAPTION_TOO_LONG = "caption_too_long", "candidates"
    CAPTION_TOO_FEW_WORDS = "caption_too_few_words", "candidates"
    CAPTION_NOT_TEXT = "caption_not_text", "candidates"  # too small a share of letters
    CAPTION_REPETITIVE = "caption_repetitive", "candidates"
    CAPTION_BOILERPLATE = "caption_boilerplate", "candidates"
    CAPTION_IS_URL = "caption_is_url", "candidates"
    CAPTION_IS_FILE_NAME = "caption_is_file_name", "candidates"
    NO_QUERY = "no_query", "candidates"
    LANGUAGE = "language", "candidates"
    DUPLICATE_IN_GROUP = "duplicate_in_group", "candidates"
    OVER_LIMIT = "over_limit", "candidates"  # --limit N: after the first N pairs

    # plan: what is known once all pairs are together
    DUPLICATE_PAIR = "duplicate_pair", "plan"
    SAME_URL = "same_url", "plan"  # the pair lives on as a further caption of its URL's row
    TOO_MANY_CAPTIONS = "too_many_captions", "plan"  # beyond the 16 kept for a URL
    CAPTION_TOO_FREQUENT = "caption_too_frequent", "plan"
    DOMAIN_CAP = "domain_cap", "plan"
    BALANCED_OUT = "balanced_out", "plan"

    # download: the network
    DNS_NOT_FOUND = "dns_not_found", "download"
    DNS_FAILED = "dns_failed", "download", True
    CONNECT_FAILED = "connect_failed", "download", True
    TLS_FAILED = "tls_failed", "download"
    TIMEOUT = "timeout", "download", True
    HTTP_NOT_FOUND = "http_not_found", "download"
    HTTP_GONE = "http_gone", "download"
    HTTP_FORBIDDEN = "http_forbidden", "download"
    HTTP_CLIENT_ERROR = "http_client_error", "download"
    HTTP_RATE_LIMITED = "http_rate_limited", "download", True
    HTTP_SERVER_ERROR = "http_server_error", "download", True
    HTTP_INVALID = "http_invalid", "download"
    TOO_MANY_REDIRECTS = "too_many_redirects", "download"
    ADDRESS_REFUSED = "address_refused", "download"
    SCHEME_REFUSED = "scheme_refused", "download"
    BODY_TOO_LARGE = "body_too_large", "download"
    HEADERS_TOO_LARGE = "headers_too_large", "download"
    BODY_INCOMPLETE = "body_incomplete", "download", True
    BODY_EMPTY = "body_empty", "download"
    ROBOTS_DISALLOWED = "robots_disallowed", "download"
    ROBOTS_UNREACHABLE = "robots_unreachable", "download", True
    OPT_OUT_HEADER = "opt_out_header", "download"  # X-Robots-Tag
    TDM_RESERVED = "tdm_reserved", "download"
    HOST_UNAVAILABLE = "host_unavailable", "download", True  # circuit breaker open
    BUDGET_SPENT = "budget_spent", "download", True  # caps on bytes, requests or time

    # download: the picture
    NOT_AN_IMAGE = "not_an_image", "download"
    SVG_REFUSED = "svg_refused", "download"
    FORMAT_UNSUPPORTED = "format_unsupported", "download"
    IMAGE_TRUNCATED = "image_truncated", "download"
    IMAGE_CORRUPT = "image_corrupt", "download"
    IMAGE_TOO_MANY_PIXELS = "image_too_many_pixels", "download"
    DECODER_CRASHED = "decoder_crashed", "download"
    DECODER_TIMEOUT = "decoder_timeout", "download"
    BLOCKED_HASH = "blocked_hash", "download"

    # select
    IMAGE_TOO_SMALL = "image_too_small", "select"
    ASPECT_RATIO = "aspect_ratio", "select"
    DUPLICATE_BYTES = "duplicate_bytes", "select"
    DUPLICATE_PICTURE = "duplicate_picture", "select"
    LOW_SCORE = "low_score", "select"
    REBALANCED_OUT = "rebalanced_out", "select"
    REMOVED = "removed", "select"  # tombstone


@dataclass(frozen=True, slots=True)
class Drop:
    """One pair that left the build, and why. `detail` is one short line and a function of the input alone."""

    key: str
    url: str
    reason: Reason
    detail: str = ""


class InputError(Exception):
    """Bad input from the user: one sentence that names the fix. Command lines print it and exit with 2."""


def pair_key(canonical_url: str, caption: str) -> str:
    """The first 128 bits of SHA-256 over the length-prefixed canonical URL and caption, as 32 hex digits."""
    url, text = canonical_url.encode(), caption.encode()
    digest = hashlib.sha256(b"%d:%b%d:%b" % (len(url), url, len(text), text))
    return digest.hexdigest()[:32]


def keyed_hash(seed: int, purpose: str, item: str | bytes) -> int:
    """A 64-bit hash of `item` that nobody can predict without the build's seed; each `purpose` is an independent draw."""
    data = item.encode() if isinstance(item, str) else item
    key = hashlib.blake2b(f"{seed}:{purpose}".encode(), digest_size=16).digest()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, key=key).digest(), "big")


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
        ("domain_split", pa.int32()),  # partitions this domain is spread over: each has this share of its rate
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
        ("sha256", pa.string()),  # of the stored bytes (img2dataset hashes the stored image? see docs; ours: both)
        ("original_sha256", pa.string()),  # of the fetched bytes
        ("phash", pa.uint64()),
        ("pdq", pa.binary(32)),
        ("pdq_quality", pa.int32()),
        ("exif", pa.string()),  # JSON object or null
    ]
)

# What varies by nature, one row per planned row; outside every comparison (design section 5).
FETCH = pa.schema(
    [
        ("key", pa.string()),
        ("attempts", pa.int32()),
        ("started", pa.timestamp("ms", "UTC")),
        ("duration_s", pa.float32()),
        ("bytes", pa.int64()),
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
            if field.name not in ("key", "captions", "critical_t", "host", "domain_split", "reason", "detail")
            and not field.name.startswith("tar_")
        ],
    ]
)
