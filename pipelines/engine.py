"""Which engine runs a stage and with what: the local default, or whatever Beam options the user gave."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    TypeOptions,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineState
from apache_beam.transforms.environments import EmbeddedPythonGrpcEnvironment, python_sdk_capabilities

from pipelines import jobs
from pipelines.asked_once import Options, remember_functions
from wit.errors import InputError, Stopped, WorkLost
from wit.runfile import Job

STARTED = ("SparkRunner", "FlinkRunner")  # whose job server Beam starts, as a process that outlives this one
NEVER_MS = 10**12  # in some 30 years; Beam takes 0 for its default


def _ignored(_: Job) -> None:
    pass


remember_functions()


@dataclass(frozen=True, slots=True)
class Engine:
    """Beam flags as the user gave them; if they name no runner, FnApiRunner with `threads` bundles in flight.

    FnApiRunner is asked for by name: `DirectRunner` of Beam 2.77 first tries to download a Prism binary and waits for ever
    behind a filtered network; its `multi_processing` mode waits for ever for a killed worker. Its `multi_threading` mode flushes
    buffers every second from a thread of its own, in the middle of an element if one is being written: what is read then is
    another value, or an error. So that mode is not asked for; the environment is the same but for that."""

    flags: tuple[str, ...]
    threads: int
    stage: str = ""
    """Of which its jobs are."""
    job_name: str = ""
    """What its jobs are called, unless the flags say it."""
    on_job: Callable[[Job], None] = _ignored
    """Is told of each job that an engine elsewhere takes, and of the state in which it ends."""

    @property
    def local(self) -> bool:
        """Whether the pipeline runs in this process."""
        return self.runner == "FnApiRunner"

    @property
    def runner(self) -> str:
        """The runner that the flags name; FnApiRunner without one."""
        return str(self.options().view_as(StandardOptions).runner or "FnApiRunner")

    @property
    def endpoint(self) -> str:
        """HOST:PORT of the job server that the flags name; empty without one."""
        given = str(self.options().view_as(PortableOptions).job_endpoint or "")
        return "" if given == "embed" else given

    def on_this_machine(self) -> FnApiRunner:
        """FnApiRunner, and where threads work side by side an environment for them whose buffers are flushed when they are full
        or their bundle ends, and never by time."""
        if self.threads == 1:
            return FnApiRunner()
        return FnApiRunner(
            EmbeddedPythonGrpcEnvironment(
                data_buffer_time_limit_ms=NEVER_MS, capabilities=python_sdk_capabilities(), artifacts=()
            )
        )

    def options(self) -> Options:
        """The flags as Beam reads them; a new object each time, since a run changes it."""
        return Options(list(self.flags))

    def check(self) -> None:
        """Raises InputError for a runner that does not exist, and for options that Beam refuses."""
        try:
            _pipeline(self.runner, self.options())
        except (ValueError, ImportError, AttributeError) as error:
            why = f"{error}".strip().rstrip(".").replace("\n", " ")
            raise InputError(
                f"--runner {self.runner} cannot be used ({why}): give what is missing, another runner, or none for this machine"
            ) from error
        if self.endpoint:
            jobs.check_endpoint(self.endpoint)

    def run(self, build: Callable[[beam.Pipeline], object]) -> None:
        """Builds the pipeline and waits for its end. Raises what the pipeline raised, InputError where bad input ended a worker,
        and Stopped where the job ends in any state but DONE: cancelled, drained, lost."""
        options = self.options()
        options.view_as(TypeOptions).pipeline_type_check = False  # mypy has checked; Beam's reading of hints is its own
        if self.local:
            options.view_as(DirectOptions).direct_num_workers = self.threads
        else:
            self._name(options)
        pipeline = _pipeline(self.on_this_machine() if self.local else self.runner, options)
        build(pipeline)
        try:
            with _ending_servers(pipeline.runner, self.runner in STARTED):
                state = pipeline.run().wait_until_finish() if self.local else self._ended(pipeline, options)
        except (InputError, Stopped, RuntimeError) as error:
            if (ended := ended_by(error)) is None:
                raise
            raise ended from error
        if state != PipelineState.DONE:
            raise Stopped(f"the job on {self.runner} ended {state}, not DONE: start the build again to go on")

    def _name(self, options: PipelineOptions) -> None:
        """Names the job, and the port of a job server that Beam starts for it: so the next start finds both."""
        named, server = options.view_as(GoogleCloudOptions), options.view_as(JobServerOptions)
        named.job_name = named.job_name or self.job_name or None
        if not self.endpoint and not server.job_port:
            server.job_port = jobs.free_port()

    def _ended(self, pipeline: beam.Pipeline, options: PipelineOptions) -> str:
        """Hands the job to the engine and waits for the state in which it ends. Raises RuntimeError with what its workers raised,
        and Stopped where that is nothing of ours, or the job server is lost. If this process is told to end meanwhile, so is the
        job."""
        started = f"localhost:{options.view_as(JobServerOptions).job_port}" if self.runner in STARTED else ""
        name = options.view_as(GoogleCloudOptions).job_name or ""
        job = Job(stage=self.stage, name=name, id="", endpoint=self.endpoint or started)
        try:
            result = pipeline.run()
            job = replace(job, id=jobs.id_of(result))
            self.on_job(job)
            state = str(result.wait_until_finish() or result.state)  # some runners wait and say nothing
        except (grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise Stopped(jobs.lost(job, self.runner, error)) from error
        except RuntimeError as error:
            if job.id:
                with contextlib.suppress(grpc.RpcError):
                    job = replace(job, state=str(result.state))
                self.on_job(job)
            if ended_by(error) is not None:
                raise
            raise jobs.failed(job, self.runner, error) from error
        except BaseException:
            jobs.cancel(job)
            raise
        self.on_job(replace(job, state=state))
        return state


def _pipeline(runner: Any, options: PipelineOptions) -> beam.Pipeline:
    """A pipeline without the empty folder that Beam makes for each in the system's temporary directory, for transforms that we do
    not use, and removes when it has run: one that is only checked, or killed, would leave it."""
    pipeline = beam.Pipeline(runner=runner, options=options)
    with contextlib.suppress(OSError):
        os.rmdir(pipeline.local_tempdir)
    return pipeline


@contextlib.contextmanager
def _ending_servers(runner: Any, starts: bool) -> Iterator[None]:
    """Ends, with the block, the job servers that a runner which starts some starts in it: Beam would keep one for each job until
    this process ends."""
    started: list[Any] = []
    if starts:
        start = runner.default_job_server

        def kept(options: Any) -> Any:
            started.append(start(options))
            return started[-1]

        runner.default_job_server = kept
    try:
        yield
    finally:
        for server in started:
            server.stop()


RAISED = re.compile(r"^wit\.errors\.(InputError|DamagedFile|StoreAway|WorkLost): ([^\n]*)", re.MULTILINE)


def ended_by(error: Exception) -> InputError | Stopped | None:
    """The InputError or Stopped that a worker raised; None for any other error. An engine may keep only its text, and wrap that
    in words of its own, which are taken off here."""
    if isinstance(error, Stopped):
        return error
    raised = [("InputError", f"{error}")] if isinstance(error, InputError) else RAISED.findall(f"{error}")
    if not raised:
        return None
    kind, words = raised[-1]
    sentence = words.split(" [while running")[0].strip()
    return {"StoreAway": Stopped, "WorkLost": WorkLost}.get(kind, InputError)(sentence)


def quiet_beam() -> None:
    """Silences Beam's log: it warns of Google libraries that a local build never needs, and repeats every error."""
    for name in ("apache_beam", "root"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # at ERROR it logs the traceback of what it raises
    if not isinstance(threading.excepthook, _ButOfServers):
        threading.excepthook = _ButOfServers(threading.excepthook)


@dataclass(frozen=True, slots=True)
class _ButOfServers:
    """What threads that end by an error call. A job server of Java's that is done with a worker hangs up, and one that dies is
    told of by the main thread: Beam's threads end by either, with a traceback each, of a good run dozens."""

    before: Callable[[threading.ExceptHookArgs], object]

    def __call__(self, args: threading.ExceptHookArgs) -> None:
        if not isinstance(args.exc_value, grpc.RpcError):
            self.before(args)
