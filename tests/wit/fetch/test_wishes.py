"""What servers asked of us is kept, in bounded memory."""

from __future__ import annotations

from wit.fetch.wishes import COST_BYTES, KEPT_BYTES, ORIGINS, Wishes


def test_the_longest_delay_of_a_hosts_origins_counts_and_a_new_word_replaces_the_old() -> None:
    wishes = Wishes({})
    assert wishes.delay("a", "http://a:80", 2)
    assert not wishes.delay("a", "http://a:80", 2)
    wishes.delay("a", "https://a:443", 5)
    assert wishes.delay_s("a") == 5
    wishes.delay("a", "https://a:443", 1)
    assert wishes.delay_s("a") == 2
    for port in range(1000, 1100):
        wishes.delay("a", f"http://a:{port}", port / 1000)
    assert wishes.delay_s("a") == 2
    assert len(wishes.to_json("a")["delays_s"]) <= ORIGINS + 1


def test_a_host_stays_closed_until_the_latest_time_it_named() -> None:
    wishes = Wishes({})
    wishes.close("a", 3600, 429)
    wishes.close("a", 1, 503)
    assert wishes.closed_by("a") == 429
    again = Wishes({"a": wishes.to_json("a")})
    assert again.closed_by("a") == 429 and not again.closed_by("b")
    again.close("b", -1, 503)
    assert not again.closed_by("b")


def test_hosts_without_end_take_bounded_memory() -> None:
    wishes = Wishes({})
    for number in range(2 * KEPT_BYTES // COST_BYTES):
        wishes.delay(f"h{number}", "http", 1)
    assert wishes.delay_s("h0") == 0 and wishes.delay_s(f"h{number}") == 1
