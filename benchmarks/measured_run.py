"""What one run of a program costs: wall and CPU seconds and the peak memory of its whole tree of processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace

import psutil


@dataclass(frozen=True)
class Run:
    """What one run of one program cost."""

    images: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    cpu_by_role: tuple[tuple[str, float], ...] = ()  # of our fetch and decode processes

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.images / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """Of one picture."""
        return 1000 * self.cpu_s / max(self.images, 1)

    def less(self, start: Run) -> Run:
        """Without what starting up costs."""
        return replace(self, wall_s=max(self.wall_s - start.wall_s, 0.01), cpu_s=max(self.cpu_s - start.cpu_s, 0.01))

    def row(self, start: Run | None = None) -> str:
        words = f"{self.rate:7.1f} img/s  {self.cpu_ms:6.2f} ms CPU/img"
        if start:
            words += f"   without start-up {self.less(start).rate:7.1f} img/s {self.less(start).cpu_ms:6.2f} ms"
        return f"{words}   peak {self.peak_mb:5.0f} MB"


def measured(
    command: list[str], environment: dict[str, str] | None = None
) -> tuple[float, float, float, dict[str, float]]:
    """(wall seconds, CPU seconds of the process and all it waited for, peak PSS of its tree in MB, CPU seconds by role of our
    children)."""
    began, peak = time.monotonic(), 0.0
    roles: dict[int, tuple[str, float]] = {}
    process = subprocess.Popen(
        command, env=os.environ | (environment or {}), stdout=subprocess.DEVNULL, stderr=sys.stderr
    )
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.4):
            tree = family(process.pid)
            peak = max(peak, sum(map(pss_mb, tree)))
            roles.update((one.pid, found) for one in tree if (found := role_and_cpu(one)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - began
    over.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} ended with {process.returncode}")
    by_role: dict[str, float] = {}
    for role, cpu in roles.values():
        by_role[role] = by_role.get(role, 0.0) + cpu
    return wall, usage.ru_utime + usage.ru_stime, peak, by_role


def family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def pss_mb(one: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        return float(one.memory_full_info().pss / 1e6)
    return 0.0


def role_and_cpu(one: psutil.Process) -> tuple[str, float] | None:
    """What one of our children is there for, and its CPU seconds so far."""
    with contextlib.suppress(psutil.Error):
        words, times = one.cmdline(), one.cpu_times()
        if len(words) > 3 and "wit.fetch.child" in words[2]:
            return words[3], times.user + times.system
    return None
