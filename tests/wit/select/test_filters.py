import pyarrow as pa
import pytest

from wit.records import Reason
from wit.select.filters import FILTERS, FilterConfig, filters_on, first_reasons, scores_read

USUAL = FilterConfig(min_image_side_px=32, max_aspect_ratio=3.0)


@pytest.mark.parametrize(
    "width, height, reason",
    [
        (32, 32, None),
        (31, 90, Reason.IMAGE_TOO_SMALL),
        (90, 31, Reason.IMAGE_TOO_SMALL),
        (300, 100, None),
        (301, 100, Reason.ASPECT_RATIO),
        (100, 301, Reason.ASPECT_RATIO),
        (1, 1000, Reason.IMAGE_TOO_SMALL),  # of two reasons the first filter's
    ],
)
def test_each_filter_names_its_reason(width: int, height: int, reason: Reason | None) -> None:
    row = pa.table({"original_width": pa.array([width], pa.int32()), "original_height": pa.array([height], pa.int32())})
    assert first_reasons(row, USUAL).tolist() == [reason]


@pytest.mark.parametrize(
    "score, reason", [(0.25, None), (0.24, Reason.LOW_SCORE), (-1.0, Reason.LOW_SCORE), (None, None)]
)
def test_a_pair_below_the_score_goes_and_one_without_a_score_stays(score: float | None, reason: Reason | None) -> None:
    side = pa.array([64], pa.int32())
    columns = {"original_width": side, "original_height": side, "clip_score": pa.array([score], pa.float32())}
    assert first_reasons(pa.table(columns), FilterConfig(min_clip_score=0.25)).tolist() == [reason]


def test_a_table_without_rows_has_no_reasons() -> None:
    empty = pa.table({"original_width": pa.array([], pa.int32()), "original_height": pa.array([], pa.int32())})
    assert first_reasons(empty, USUAL).tolist() == []


def test_a_filter_without_a_bound_is_not_asked_and_reads_nothing() -> None:
    assert [one.knob for one in filters_on(USUAL)] == ["min_image_side_px", "max_aspect_ratio"]
    assert scores_read(USUAL) == [] and scores_read(FilterConfig(min_clip_score=0.25)) == ["clip_score"]


def test_every_filter_has_a_knob_with_a_range() -> None:
    assert {one.knob for one in FILTERS} == set(FilterConfig.BOUNDS)


def test_each_row_has_the_reason_of_the_first_filter_that_objects() -> None:
    sides = {"original_width": [40, 10, 400, 40, 10], "original_height": [40, 40, 40, 40, 400]}
    columns = {name: pa.array(values, pa.int32()) for name, values in sides.items()}
    scores = pa.array([0.9, 0.1, 0.1, 0.1, None], pa.float32())
    small, narrow, low = Reason.IMAGE_TOO_SMALL, Reason.ASPECT_RATIO, Reason.LOW_SCORE
    reasons = first_reasons(pa.table(columns | {"clip_score": scores}), FilterConfig(min_clip_score=0.25))
    assert reasons.tolist() == [None, small, narrow, low, small]
