"""Before the first stage on an engine elsewhere: one worker is asked what it is, and writes the answer under OUT."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import apache_beam as beam

from pipelines.context import Context
from pipelines.gather import scratch_folder
from wit.errors import InputError, JobFailed
from wit.store import fs
from wit.typed import load, to_json

# Of a package that is not there, or is of another version.
MISSING = ("ModuleNotFoundError", "ImportError", "AttributeError")


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker says of itself."""

    wit: str
    python: str
    beam: str
    user: str
    host: str

    @property
    def versions(self) -> str:
        """Its packages in words."""
        return f"wit {self.wit or 'from a path'} with Beam {self.beam}"


def this_process() -> Worker:
    """What this process would say."""
    try:
        mine = version("wit")
    except PackageNotFoundError:  # it lies in the path, and was never installed
        mine = ""
    return Worker(
        mine,
        platform.python_version(),
        beam.version.__version__,
        os.environ.get("USER") or f"{os.getuid()}",
        platform.node(),
    )


def tell(path: str) -> None:
    """Is run by the worker: writes what it is."""
    fs.write_bytes(path, to_json(this_process()))


def probe(context: Context) -> None:
    """Prints what a worker of the engine is. Raises InputError where it has not this version of the package, or writes elsewhere
    than this process reads: any stage would find that out, later, and in more words."""
    engine, out = context.engine, context.config.output
    with scratch_folder(out) as folder:
        path = fs.join(folder, f"{secrets.token_hex(4)}.json")
        with _one_sentence(engine.runner, out):
            engine.run(lambda p: p | beam.Create([path], reshuffle=False) | "Tell" >> beam.Map(tell))
        data = fs.read_if_there(path)
    if data is None:
        raise InputError(
            f"a worker of {engine.runner} does not write where this process reads: --output {out} must be the same place on all "
            "machines"
        )
    worker, here = load(Worker, json.loads(data)), this_process()
    told = f"{worker.versions} and Python {worker.python}, as user {worker.user} on {worker.host}"
    print(f"workers    {engine.runner}: {told}", file=sys.stderr)
    if (worker.wit, worker.beam) != (here.wit, here.beam):
        raise InputError(
            f"the workers of {engine.runner} have {worker.versions}, and this process has {here.versions}: install the same "
            "on all machines"
        )


@contextlib.contextmanager
def _one_sentence(runner: str, out: str) -> Iterator[None]:
    try:
        yield
    except JobFailed as error:
        if not error.taken:
            raise
        why = error.cause
        if why.startswith(MISSING):
            raise InputError(
                f"a worker of {runner} cannot run the package ({why}): install it for the worker's Python (docs/engines.md)"
            ) from error
        raise InputError(
            f"a worker of {runner} cannot do its part ({why}): it must reach --output {out}, and be allowed to write there"
        ) from error
