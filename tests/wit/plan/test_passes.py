"""Which units a plan wants."""

import pytest

from wit.errors import Stopped
from wit.plan.facts import QUERIES
from wit.plan.passes import OF_BUCKETS, OF_PARTITIONS, Wanted, wanted_units
from wit.store.manifests import Unit

SCATTERED = [Unit.numbered("scatter", 0)]


def test_they_follow_from_the_slices_of_both_shuffles() -> None:
    wanted = [Wanted.of([7, 2], kinds=OF_BUCKETS), Wanted.of([], kinds=OF_PARTITIONS)]
    units = [*wanted_units(SCATTERED, wanted)]
    assert len(units) == 8 and {*units} == {
        *SCATTERED,
        QUERIES,
        *(Unit.numbered(kind, n) for kind in OF_BUCKETS for n in (2, 7)),
    }


@pytest.mark.parametrize("kinds", [(), (OF_BUCKETS,), (OF_PARTITIONS,)])
def test_where_an_engine_lost_what_follows_the_plan_is_not_finished(kinds: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(Stopped, match="of the 2 units of plan were not published"):
        wanted_units(SCATTERED, [Wanted.of([1], kinds=some) for some in kinds])
