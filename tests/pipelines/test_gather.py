import sys
from pathlib import Path

import apache_beam as beam
import fsspec
import pyarrow as pa
import pytest

from pipelines import gather as gathering
from pipelines.engine import Engine
from pipelines.gather import gather
from wit.layout import SCRATCH
from wit.store import fs, patience
from wit.store.manifests import Marker, Unit
from wit.store.parts import StageDir
from wit.tally import Tally

sys.path.append(str(Path(__file__).parents[1]))

import stores


def marker(number: int) -> Marker:
    unit = Unit.numbered("part", number)
    return Marker(into=number, out=number, dropped={}, unit=unit, fingerprint="f", files={})


@pytest.mark.parametrize("expected", [0, 1, 2_500])
def test_what_comes_out_of_a_job_comes_back_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: int
) -> None:
    monkeypatch.setattr(gathering, "BATCH", 100)
    numbers = [*range(250), *range(50)]  # as an engine that tries again may give them
    units = gather(
        Engine((), threads=2),
        numbers,
        int,
        lambda every: every | beam.Map(marker),
        Marker,
        out=str(tmp_path),
        expected=expected,
    )
    assert sorted(units, key=lambda one: one.into) == [marker(number) for number in range(250)]
    assert fs.list_dir(fs.join(str(tmp_path), SCRATCH)) == []


def test_a_listing_that_comes_late_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("other", stores.OtherStore, clobber=True)
    monkeypatch.setenv("STORE_LATE", "60")
    out = f"other://{tmp_path}/out"
    stage = StageDir(out, "candidates", "f")

    def publish(number: int) -> Marker:
        return StageDir(out, "candidates", "f").publish_tables(
            Unit.numbered("part", number), {"rows": pa.table({"x": [number]})}, Tally(into=1, out=1, dropped={})
        )

    units = gather(
        Engine((), 1), range(3), int, lambda every: every | beam.Map(publish), Marker, out=out, expected=3_000
    )
    assert len(units) == 3 and stage.units() == []
    assert [str(one.unit) for one in stage.standing(units)] == ["part-00000", "part-00001", "part-00002"]
    fs.remove(stage.marker_path(Unit.numbered("part", 1)))
    fs.write_bytes(stage.file(units[0], "rows"), b"cut")
    assert len(stage.standing(units)) == (1 if units[0].unit != Unit.numbered("part", 1) else 2)


def test_of_a_job_that_gives_nothing_nothing_comes_back(tmp_path: Path) -> None:
    assert gather(Engine((), 1), [], int, lambda every: every, Marker, out=str(tmp_path)) == []


def test_a_job_that_fails_leaves_no_files(tmp_path: Path) -> None:
    def fail(number: int) -> Marker:
        raise RuntimeError(f"no {number}")

    with pytest.raises(RuntimeError, match="no 1"):
        gather(Engine((), 1), [1], int, lambda every: every | beam.Map(fail), Marker, out=str(tmp_path))
    assert fs.list_dir(fs.join(str(tmp_path), SCRATCH)) == []


def test_what_workers_asked_of_the_store_again_comes_back_beside_the_elements(tmp_path: Path) -> None:
    patience.counted()

    def work(number: int) -> Marker:
        patience.count({"503": 1})
        return marker(number)

    units = gather(
        Engine((), threads=2),
        range(5),
        int,
        lambda every: every | beam.Map(work),
        Marker,
        out=str(tmp_path),
    )
    assert len(units) == 5 and patience.counted() == {"503": 5}
