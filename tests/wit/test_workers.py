import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from wit import workers
from wit.errors import WorkerLost
from wit.store import patience


def die_once(flag: str) -> str:
    if not os.path.exists(flag):
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_work_of_a_killed_worker_runs_again(tmp_path: Path) -> None:
    with workers.closing_pools():
        assert workers.run(2, die_once, str(tmp_path / "flag")) == "done"


def test_work_that_always_kills_its_worker_is_named() -> None:
    with workers.closing_pools(), pytest.raises(WorkerLost, match="die ended its worker"):
        workers.run(1, die)


def test_an_error_of_the_work_itself_is_raised_as_it_is() -> None:
    with workers.closing_pools(), pytest.raises(ZeroDivisionError):
        workers.run(1, divmod, 1, 0)


def test_workers_end_with_their_owner(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(
        "import os, time\nfrom wit import workers\n"
        "if __name__ == '__main__':\n"
        "    print(workers.run(1, os.getpid), flush=True)\n    time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    owner = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment)
    assert owner.stdout is not None
    with owner.stdout:
        worker = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    for _ in range(100):
        if not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its owner")


def interrupts_held() -> bool:
    """From its birth, before any code of ours has run in it."""
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ctrl_c_is_the_owners_alone_from_the_birth_of_a_worker() -> None:
    with workers.closing_pools():
        assert workers.run(1, interrupts_held)
    assert not interrupts_held()


def asked_again(times: int) -> int:
    patience.count({"503": times})
    return os.getpid()


def test_what_workers_asked_of_stores_again_is_counted_in_their_owner() -> None:
    patience.counted()
    with workers.closing_pools():
        assert {workers.run(2, asked_again, times) for times in (1, 2, 4)}.isdisjoint({os.getpid()})
    assert patience.counted() == {"503": 7}


def meet(folder: str, name: str, others: int) -> None:
    """Ends once work in so many other processes is here too."""
    Path(folder, name).touch()
    while len(os.listdir(folder)) <= others:
        time.sleep(0.01)


def stay_after(folder: str, name: str, others: int) -> None:
    """As `meet`, and for so long that the neighbour is dead before."""
    meet(folder, name, others)
    time.sleep(0.5)


def meet_and_die(folder: str, name: str, others: int) -> None:
    meet(folder, name, others)
    die()


def test_who_kills_a_worker_costs_its_neighbours_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are at work when one dies, again and again: the other is not begun anew, though no attempt is left to it."""
    monkeypatch.setattr(workers, "ATTEMPTS", 1)
    shared = workers.Pool(2)
    try:
        with ThreadPoolExecutor(2) as threads:
            for round_ in range(3):
                (folder := tmp_path / str(round_)).mkdir()
                deadly = threads.submit(shared.run, meet_and_die, str(folder), "deadly", 1)
                harmless = threads.submit(shared.run, stay_after, str(folder), "harmless", 1)
                assert isinstance(deadly.exception(), WorkerLost)
                assert harmless.result() is None
    finally:
        shared.close()


def test_an_idle_worker_that_died_is_no_attempt_of_the_next_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ATTEMPTS", 1)
    shared = workers.Pool(1)
    try:
        os.kill(shared.run(os.getpid), signal.SIGKILL)
        (executor,) = (worker._executor for worker in shared._workers)
        while not executor._broken:  # type: ignore[union-attr]
            time.sleep(0.01)
        assert shared.run(len, "three") == 5
    finally:
        shared.close()


def test_a_worker_that_dies_while_it_starts_is_no_attempt_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue to it is closed by then; seen when a worker was killed at the wrong moment."""
    monkeypatch.setattr(workers, "ATTEMPTS", 1)
    real, failures = workers.ProcessPoolExecutor.submit, [OSError("handle is closed"), OSError(12, "no memory")]

    def submit(self: object, *given: object) -> object:
        if failures:
            raise failures.pop(0)
        return real(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(workers.ProcessPoolExecutor, "submit", submit)
    shared = workers.Pool(1)
    try:
        with pytest.raises(OSError, match="no memory"):
            shared.run(len, "three")
        assert shared.run(len, "three") == 5
    finally:
        shared.close()
