"""`--host-limits FILE`: the operator's rules for single hosts and domains, read again while a build runs.

["example.org"]          # the domain, and each of its hosts
rate = 0.5               # requests a second
concurrency = 1          # requests at a time

["img.example.net"]
deny = true              # it is not asked any more, nor are hosts below it
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import ada_url

from wit.errors import InputError
from wit.store import fs

LEAST_RATE, MOST_RATE = 1e-4, 1e6  # requests a second, as of --host-rate-per-s: one in three hours
WANTED = {
    "rate": f"a number from {LEAST_RATE:g} to {MOST_RATE:g}",
    "concurrency": "a whole number above 0",
    "deny": "true or false",
}
KINDS: dict[str, Callable[[Any], bool]] = {
    "rate": lambda value: type(value) in (int, float) and LEAST_RATE <= value <= MOST_RATE,
    "concurrency": lambda value: type(value) is int and value > 0,
    "deny": lambda value: type(value) is bool,
}


@dataclass(frozen=True, slots=True)
class HostLimit:
    """One entry. None means the value in the build's configuration."""

    rate: float | None = None  # requests a second
    concurrency: int | None = None
    deny: bool = False


@dataclass(frozen=True, slots=True)
class HostLimits:
    """The entries by name, in lower case."""

    entries: dict[str, HostLimit] = field(default_factory=dict)

    def denies(self, host: str) -> bool:
        """Whether the host, or a name above it, is denied."""
        return any(self.entries[name].deny for name in self._names(host))

    def of(self, host: str) -> HostLimit:
        """The entry of the host, else of the nearest name above it; an empty one where there is none."""
        return next((self.entries[name] for name in self._names(host)), HostLimit())

    def _names(self, host: str) -> Iterator[str]:
        if not self.entries:
            return
        labels = host.rstrip(".").split(".")
        yield from (name for n in range(len(labels)) if (name := ".".join(labels[n:])) in self.entries)


def parse(text: str, path: str) -> HostLimits:
    """The limits of a TOML file; raises InputError with the line or entry that is wrong."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"--host-limits {path} is not TOML: {error}") from error
    entries: dict[str, HostLimit] = {}
    for given, table in tables.items():
        name = _name(given, path)
        if name in entries:
            raise InputError(f"--host-limits {path} speaks of {name} twice: keep one of the two")
        entries[name] = _entry(given, table, path)
    return HostLimits(entries)


def read(path: str) -> HostLimits:
    """The limits of a file, none without a path; raises InputError where it is missing or malformed."""
    return parse(read_text(path), path) if path else HostLimits()


def read_text(path: str) -> str:
    return fs.read_given("--host-limits", path)


def _name(name: str, path: str) -> str:
    """The name in the form in which hosts are compared: lower case, punycode, no dot at its end."""
    try:
        host = str(ada_url.URL(f"http://{name}/").hostname).rstrip(".")
    except ValueError:
        host = ""
    plain = name[1:-1].replace(":", "") if name.startswith("[") and name.endswith("]") else name  # IPv6
    if not host or set(plain) & set("/:@?#*\\ ") or host.startswith("."):
        raise InputError(
            f'--host-limits {path}: "{name}" is no host or domain: write the name alone, as "example.org", which speaks of '
            "hosts below it too"
        )
    return host


def _entry(name: str, table: Any, path: str) -> HostLimit:
    where = f'--host-limits {path}: ["{name}"]'
    if not isinstance(table, dict):
        raise InputError(f"{where} is no table: write the name in brackets, and below it rate, concurrency or deny")
    for key, value in table.items():
        if key not in KINDS:
            raise InputError(f"{where} has no setting {key}; have {', '.join(KINDS)}")
        if not KINDS[key](value):
            wanted = WANTED[key]
            raise InputError(f"{where} {key} = {value!r}: give {wanted}")
    return HostLimit(**table)
