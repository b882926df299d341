"""Which settings decide over which losses: what to change where nothing was kept, and what to fetch again after a change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wit.knobs import flag
from wit.reasons import Reason
from wit.select.filters import FILTERS
from wit.stages import STAGES
from wit.tally import Tally

R = Reason
# The settings that decide over each Reason, the one to try first. "source" means other input: no flag brings back what is not
# there.
SETTINGS: Mapping[Reason, tuple[str, ...]] = {
    **dict.fromkeys((R.URL_MISSING, R.URL_INLINE, R.URL_INVALID, R.URL_SCHEME), ("url_col", "source")),
    R.URL_TOO_LONG: ("max_url_chars",),
    **dict.fromkeys((R.CAPTION_MISSING, R.CAPTION_EMPTY), ("caption_col", "source")),
    R.CAPTION_TOO_SHORT: ("min_caption_chars",),
    R.CAPTION_TOO_LONG: ("max_caption_chars",),
    R.CAPTION_TOO_FEW_WORDS: ("min_caption_words",),
    R.CAPTION_NOT_TEXT: ("min_letter_share",),
    R.CAPTION_REPETITIVE: ("max_char_run", "max_word_share"),
    **dict.fromkeys((R.CAPTION_BOILERPLATE, R.CAPTION_IS_URL, R.CAPTION_IS_FILE_NAME), ("source",)),
    R.NO_QUERY: ("queries", "matching"),
    R.LANGUAGE: ("languages", "language_min_score"),
    R.OVER_LIMIT: ("limit",),
    **dict.fromkeys((R.DUPLICATE_IN_GROUP, R.DUPLICATE_PAIR, R.SAME_URL), ("source",)),
    R.TOO_MANY_CAPTIONS: ("max_captions_per_url",),
    R.CAPTION_TOO_FREQUENT: ("max_urls_per_caption",),
    R.DOMAIN_CAP: ("max_domain_hours", "max_urls_per_domain"),
    R.BALANCED_OUT: ("max_per_query", "target", "oversample"),
    **dict.fromkeys((R.DNS_NOT_FOUND, R.DNS_FAILED), ("nameservers",)),
    R.CONNECT_FAILED: ("connect_timeout_s", "egress_proxy"),
    R.TLS_FAILED: ("ca_file",),
    R.TIMEOUT: ("timeout_s",),
    **dict.fromkeys((R.HTTP_NOT_FOUND, R.HTTP_GONE, R.HTTP_INVALID, R.BODY_EMPTY, R.SCHEME_REFUSED), ("source",)),
    **dict.fromkeys((R.HTTP_FORBIDDEN, R.HTTP_CLIENT_ERROR), ("user_agent", "contact")),
    R.HTTP_RATE_LIMITED: ("host_rate_per_s", "domain_rate_per_s"),
    **dict.fromkeys((R.HTTP_SERVER_ERROR, R.BODY_INCOMPLETE), ("retry_failed",)),
    R.TOO_MANY_REDIRECTS: ("max_redirects",),
    R.PORT_REFUSED: ("source",),
    R.HOST_DENIED: ("host_limits",),
    R.FETCHER_CRASHED: ("source",),
    R.ADDRESS_REFUSED: ("allow_addresses", "egress_proxy"),
    R.BODY_TOO_LARGE: ("max_body_bytes",),
    R.HEADERS_TOO_LARGE: ("max_header_bytes",),
    **dict.fromkeys((R.ROBOTS_DISALLOWED, R.ROBOTS_UNREACHABLE), ("respect_robots", "user_agent")),
    **dict.fromkeys((R.OPT_OUT_HEADER, R.TDM_RESERVED), ("respect_opt_out",)),
    R.HOST_UNAVAILABLE: ("breaker_failures", "breaker_pause_s"),
    R.BUDGET_SPENT: ("max_bytes", "max_requests", "max_seconds"),
    **dict.fromkeys((R.NOT_AN_IMAGE, R.SVG_REFUSED, R.FORMAT_UNSUPPORTED), ("source",)),
    **dict.fromkeys((R.IMAGE_TRUNCATED, R.IMAGE_CORRUPT, R.DECODER_CRASHED), ("source",)),
    R.IMAGE_TOO_MANY_PIXELS: ("max_pixels",),
    **dict.fromkeys((R.IMAGE_NEEDS_MEMORY, R.IMAGE_TOO_MANY_PARTS, R.IMAGE_SIDE_TOO_LONG), ("source",)),
    R.HASH_MISMATCH: ("verify_hash",),
    R.DECODER_TIMEOUT: ("decode_timeout_s",),
    R.BLOCKED_HASH: ("blocked_hashes",),
    **dict.fromkeys((R.DUPLICATE_BYTES, R.DUPLICATE_PICTURE), ("source",)),
    R.REBALANCED_OUT: ("max_per_query", "oversample"),
    R.REMOVED: ("source",),
    **{one.reason: tuple(other.knob for other in FILTERS if other.reason is one.reason) for one in FILTERS},
}

BY_NAME = {str(reason): settings for reason, settings in SETTINGS.items()}


def nothing_kept(totals: Mapping[str, Tally]) -> str:
    """Why a finished build kept nothing, in one sentence. It names the commonest Reason of the stage that lost the last pair, and
    the flag that decides over it; then the commonest Reason of the whole build, if that struck earlier."""
    stages = [(stage, totals[stage]) for stage in STAGES if stage in totals]
    if not stages or not stages[0][1].into:
        return "nothing was kept: the sources hold no pairs (ledger/sources.parquet says what was read): give another --source"
    stage, last = next((stage, total) for stage, total in stages if not total.out)
    sentence = f"nothing was kept: {_most(stage, last)}"
    counts = {(name, reason): n for name, total in stages for reason, n in total.dropped.items()}
    most = max(counts, key=lambda item: (counts[item], item))
    if most[0] != stage:
        sentence += f"; before that {_most(most[0], totals[most[0]])}"
    return sentence


def _most(stage: str, total: Tally) -> str:
    reason = max(total.dropped, key=lambda name: (total.dropped[name], name))
    which = flag(BY_NAME.get(reason, ("source",))[0])
    return f"{total.dropped[reason]:,} of {total.into:,} pairs left {stage} as {reason}, on which {which} decides"


def refused_before(was: Mapping[str, Any], is_: Mapping[str, Any], dropped: Mapping[str, int]) -> list[str]:
    """For each fetch setting that has changed since a finished download, one line: how many rows it refused then, and how to
    fetch them now. No fingerprint has these settings in it. `was` and `is_` are FetchConfigs as run.json has them."""
    lines = []
    for setting in sorted(was.keys() & is_.keys()):
        reasons = [reason for reason in sorted(dropped) if setting in BY_NAME.get(reason, ())]
        if was[setting] != is_[setting] and reasons:
            rows = sum(dropped[reason] for reason in reasons)
            lines.append(
                f"{flag(setting)} was {_value(was[setting])} and is {_value(is_[setting])}, {rows:,} rows were refused for "
                f"it: --retry-reason {','.join(reasons)} fetches those"
            )
    return lines


def _value(value: Any) -> str:
    return (", ".join(map(str, value)) or "empty") if isinstance(value, list | tuple) else str(value)
