"""The life of a job on an engine with a job server: what it is called, and what an earlier start left running."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc
import xxhash
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.portability.portable_runner import TERMINAL_STATES

from wit.errors import InputError, JobFailed, Stopped
from wit.runfile import AT_WORK, Job

ANSWER_S = 10.0  # after which a job server that says nothing is taken for gone
ASKED_EVERY_S = 2.0
NAME = "wit"


def name_of(out: str, stage: str) -> str:
    """What the jobs of a stage are called: letters, digits and hyphens, as Dataflow asks for. It ends in the end of OUT's path
    and a hash of all of it."""
    place = re.sub(r"[^a-z0-9]+", "-", out.lower()).strip("-")[-30:].strip("-")
    return "-".join(filter(None, (NAME, stage, place, _mark(out))))


def _mark(out: str) -> str:
    return f"x{xxhash.xxh3_64_hexdigest(out.encode())[:10]}"


def listens(endpoint: str, seconds: float = 3.0) -> bool:
    """Whether somebody accepts connections at HOST:PORT."""
    host, _, port = endpoint.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]") or "localhost", int(port)), seconds):
            return True
    except (OSError, ValueError, OverflowError):
        return False


def check_endpoint(endpoint: str) -> None:
    """Raises InputError where nobody listens: Beam would wait for a minute and a half."""
    if not listens(endpoint):
        raise InputError(
            f"nobody listens at --job_endpoint {endpoint}: start the job server there, or give its HOST:PORT"
        )


class Server:
    """A job server: which jobs it has, and in which state."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._channel = grpc.insecure_channel(endpoint)
        self._asked = beam_job_api_pb2_grpc.JobServiceStub(self._channel)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def at_work(self, out: str, known: str = "") -> list[Job]:
        """The jobs of OUT that have not ended, by their names; and the one of the id `known`, whatever its name."""
        answer = self._asked.GetJobs(beam_job_api_pb2.GetJobsRequest(), timeout=ANSWER_S)
        jobs = [_job(info, self.endpoint) for info in answer.job_info if info.state not in TERMINAL_STATES]
        return [job for job in jobs if job.name.endswith(_mark(out)) or (known and job.id == known)]

    def state(self, job: Job) -> int:
        """The state of a job, as Beam counts them."""
        asked = beam_job_api_pb2.GetJobStateRequest(job_id=job.id)
        return int(self._asked.GetState(asked, timeout=ANSWER_S).state)

    def cancel(self, job: Job) -> None:
        """Asks for the end of a job; it may take a while."""
        self._asked.Cancel(beam_job_api_pb2.CancelJobRequest(job_id=job.id), timeout=ANSWER_S)

    def wait(self, job: Job) -> str:
        """Waits for the end of a job; returns its last state in a word."""
        while (state := self.state(job)) not in TERMINAL_STATES:
            time.sleep(ASKED_EVERY_S)
        return str(beam_job_api_pb2.JobState.Enum.Name(state))


def _job(info: Any, endpoint: str) -> Job:
    given = info.pipeline_options.fields
    names = [given[name].string_value for name in ("beam:option:job_name:v1", "jobName") if name in given]
    name = next(filter(None, names), info.job_name)
    return Job(stage=name.split("-")[1] if "-" in name else "", name=name, id=info.job_id, endpoint=endpoint)


def end_of_earlier(out: str, endpoint: str, last: Job | None, *, cancel: bool) -> None:
    """Waits for the end of every job of OUT that an earlier start left at work, or ends it; with a line for each. Asked are the
    job server at `endpoint`, if any, and that of the last job, unless run.json knows its end. One at which nobody listens is
    taken for gone: what its workers may still publish is the same. Raises Stopped where one refuses to say."""
    asked = dict.fromkeys((endpoint, last.endpoint if last and last.state == AT_WORK else ""))
    for place in filter(listens, asked):
        with Server(place) as server, _one_sentence(place):
            for job in server.at_work(out, last.id if last else ""):
                print(_words(job, cancel), file=sys.stderr)
                if cancel:
                    server.cancel(job)
                print(f"job {job.id} ended {server.wait(job)}", file=sys.stderr)


def _words(job: Job, cancel: bool) -> str:
    what = f"job {job.id} ({job.name}) of an earlier start is still at work at {job.endpoint}"
    return f"{what}: it is ended" if cancel else f"{what}: waiting for its end (--cancel-running ends it)"


@contextlib.contextmanager
def _one_sentence(endpoint: str) -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise Stopped(
            f"the job server at {endpoint} does not say what became of a job of this output ({first_line(error)}): start the "
            "build again when it does, or end it"
        ) from error


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    details = getattr(error, "details", None)
    text = str(details() if callable(details) else error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def id_of(result: Any) -> str:
    """What the engine calls the job that it has just taken; empty where it does not say."""
    given = getattr(result, "job_id", None)
    return str((given() if callable(given) else given) or getattr(result, "_job_id", "") or "")


def words(job: Job, runner: str) -> str:
    """What a sentence calls a job."""
    return f"job {job.id} on {runner}" if job.id else f"job on {runner}"


def lost(job: Job, runner: str, error: BaseException) -> str:
    """The sentence where a job server ends, or refuses, in the middle of a job."""
    return f"the job server of the {words(job, runner)} is lost ({first_line(error)}): start the build again to go on"


def failed(job: Job, runner: str, error: BaseException) -> JobFailed:
    """The error where a job ends with something that is none of ours."""
    why = cause(error)
    return JobFailed(
        f"the {words(job, runner)} ended {job.state} ({why}): mend that, and start the build again to go on"
        if job.id
        else f"{runner} does not take the job ({why}): mend that, and start the build again",
        why,
        bool(job.id),
    )


def cause(error: BaseException) -> str:
    """The first cause of an error that came through an engine, in a line: what a worker's Python raised, or else its last
    `Caused by`."""
    text = str(error)
    python = text.partition("Traceback")[2]
    raised = re.findall(r"^([\w.]*(?:Error|Exception|Interrupt|Exit)(?:: [^\n]*)?)$", python, re.MULTILINE)
    caused = re.findall(r"^Caused by: ([^\n]*)", text, re.MULTILINE)
    chosen = next(iter(raised or caused[-1:]), first_line(error))
    return chosen.split(" [while running")[0].strip()[:300]


def cancel(job: Job) -> None:
    """Asks for the end of a job, if somebody can be asked."""
    if job.id and job.endpoint and listens(job.endpoint):
        with contextlib.suppress(grpc.RpcError), Server(job.endpoint) as server:
            server.cancel(job)
