"""Why a pair leaves a build: the part of `wit.records` that the fetch engine's child processes need, kept apart so that they need
not import pyarrow (a tenth of a second and 30 MB a process)."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Every way a pair can be lost. The value is what tables hold; `stage` says where it happens. A `transient` loss may succeed
    another day: `--retry-failed` retries those, and the outage rule watches them."""

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
    PORT_REFUSED = "port_refused", "download"  # a port of another service than the web (Fetch standard)
    HOST_DENIED = "host_denied", "download"  # by --host-limits
    BODY_TOO_LARGE = "body_too_large", "download"
    HEADERS_TOO_LARGE = "headers_too_large", "download"
    BODY_INCOMPLETE = "body_incomplete", "download", True
    BODY_EMPTY = "body_empty", "download"
    ROBOTS_DISALLOWED = "robots_disallowed", "download"
    ROBOTS_UNREACHABLE = "robots_unreachable", "download", True
    OPT_OUT_HEADER = "opt_out_header", "download"  # X-Robots-Tag
    TDM_RESERVED = "tdm_reserved", "download"
    HOST_UNAVAILABLE = "host_unavailable", "download", True  # it had failed, or asked to be left alone, before
    BUDGET_SPENT = "budget_spent", "download", True  # caps on bytes, requests or time
    FETCHER_CRASHED = "fetcher_crashed", "download"  # by a fault of ours that only this reply brings out

    # download: the picture
    NOT_AN_IMAGE = "not_an_image", "download"
    SVG_REFUSED = "svg_refused", "download"
    FORMAT_UNSUPPORTED = "format_unsupported", "download"
    IMAGE_TRUNCATED = "image_truncated", "download"
    IMAGE_CORRUPT = "image_corrupt", "download"
    IMAGE_TOO_MANY_PIXELS = "image_too_many_pixels", "download"
    IMAGE_SIDE_TOO_LONG = "image_side_too_long", "download"  # for decoder, resizer or encoder
    IMAGE_NEEDS_MEMORY = "image_needs_memory", "download"  # more than a decode process may take
    IMAGE_TOO_MANY_PARTS = "image_too_many_parts", "download"  # scans, chunks, blocks or tags
    DECODER_CRASHED = "decoder_crashed", "download"
    DECODER_TIMEOUT = "decoder_timeout", "download"
    HASH_MISMATCH = "hash_mismatch", "download"  # not the hash that the list gives (--verify-hash)
    BLOCKED_HASH = "blocked_hash", "download"

    # select
    IMAGE_TOO_SMALL = "image_too_small", "select"
    ASPECT_RATIO = "aspect_ratio", "select"
    DUPLICATE_BYTES = "duplicate_bytes", "select"
    DUPLICATE_PICTURE = "duplicate_picture", "select"
    LOW_SCORE = "low_score", "select"
    REBALANCED_OUT = "rebalanced_out", "select"
    REMOVED = "removed", "select"  # tombstone


X = 1
