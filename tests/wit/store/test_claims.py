import multiprocessing
import sys
from pathlib import Path

from wit.store import claims, fs

sys.path.append(str(Path(__file__).parents[2]))

import races


def claim_many(path: str, name: str, won: "multiprocessing.Queue[str]") -> None:
    if claims.claim(path, name.encode()):
        won.put(name)


def test_of_many_claims_exactly_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    won: multiprocessing.Queue[str] = context.Queue()
    racers = [context.Process(target=claim_many, args=(str(tmp_path / "m"), str(i), won)) for i in range(16)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert fs.read_bytes(str(tmp_path / "m")).decode() == won.get(timeout=5)
    assert won.empty() and fs.list_dir(str(tmp_path)) == ["m"]


def test_of_many_that_claim_on_this_machine_exactly_one_wins_round_after_round(tmp_path: Path) -> None:
    places = [str(tmp_path / f"m{number}") for number in range(200)]
    won = races.winners(places, races.claims)
    assert [[fs.read_bytes(place).decode()] for place in places] == won
