"""The life of a job, on Beam's own job server (in Python, in a process of its own, which has the workers too): a driver that dies
leaves its job at work; the next start waits for it, or ends it; whatever happens to it is one sentence."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from pipelines import jobs
from pipelines.engine import Engine
from wit.errors import InputError, Stopped
from wit.runfile import Job

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@dataclass
class JobServer:
    """Beam's job server at a port of this machine."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> str:
        return f"localhost:{self.port}"

    @property
    def flags(self) -> tuple[str, ...]:
        environment = "--environment_type=beam:env:embedded_python:v1"  # workers are threads of the server
        return ("--runner=PortableRunner", f"--job_endpoint={self.endpoint}", environment)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[JobServer]:
    """One for each test: what it did is no other's."""
    with job_server(tmp_path) as one:
        yield one


@contextlib.contextmanager
def job_server(tmp_path: Path, *more: str) -> Iterator[JobServer]:
    """A server, and workers with these folders in their path, too."""
    port = jobs.free_port()
    command = [sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main"]
    command += [f"--port={port}", f"--staging_dir={tmp_path}/staged"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*more, str(ROOT), str(ROOT / "tests/pipelines")])}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment)
    until(lambda: jobs.listens(f"localhost:{port}"))
    try:
        yield JobServer(port, process)
    finally:
        process.kill()
        process.wait(30)


def until(done: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


OUT = "/data/set"
LASTING = """
import signal
import sys
from pathlib import Path
import apache_beam as beam
from pipelines import jobs
from pipelines.engine import Engine, quiet_beam
from wit.errors import Stopped

def lasts(folder):
    import time
    from pathlib import Path
    Path(folder, "began").touch()
    while not Path(folder, "may_end").exists():
        time.sleep(0.05)
    Path(folder, "ended").touch()

signal.signal(signal.SIGINT, signal.default_int_handler)  # who started the tests in the background has it ignored
folder, out, *flags = sys.argv[1:]
told = lambda job: print(job.state, job.id, flush=True)
engine = Engine(tuple(flags), 1, "plan", jobs.name_of(out, "plan"), told)
quiet_beam()
try:
    engine.run(lambda p: p | beam.Create([folder]) | beam.Map(lasts))
except Stopped as error:
    print(error, flush=True)
"""


@contextlib.contextmanager
def lasting(server: JobServer, folder: Path, out: str = OUT) -> Iterator[subprocess.Popen[str]]:
    """A driver whose job of the stage plan of OUT lasts until `may_end` is there."""
    command = [sys.executable, "-c", LASTING, str(folder), out, *server.flags]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as driver:
        try:
            until(lambda: (folder / "began").exists() or driver.poll() is not None)
            assert driver.poll() is None, driver.communicate()[1]
            yield driver
        finally:
            driver.kill()


def test_a_name_tells_the_stage_and_the_output_and_is_one_that_dataflow_takes() -> None:
    outs = ["/data/My Sets/büild_1", "s3://bucket/set", "s3://bucket/set2", "/", "x" * 3_000, "/data/my-sets/b-ild-1"]
    names = [jobs.name_of(out, "select") for out in outs]
    assert len(set(names)) == len(outs)
    assert all(re.fullmatch(r"wit-select-[-a-z0-9]{0,60}[a-z0-9]", name) for name in names)
    assert "bucket-set" in names[1]


@pytest.mark.parametrize("endpoint", ["localhost:1", "nowhere.invalid:8099", "localhost", "localhost:x", "[::1]:1"])
def test_where_nobody_listens_it_is_one_sentence_within_seconds(endpoint: str) -> None:
    with pytest.raises(InputError, match=re.escape(endpoint)):
        Engine(("--runner=PortableRunner", f"--job_endpoint={endpoint}"), 1).check()


def test_a_job_is_told_of_and_a_driver_that_dies_leaves_it_for_the_next_start(
    server: JobServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with lasting(server, tmp_path) as driver:
        assert driver.stdout is not None
        state, job = driver.stdout.readline().split()
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert state == "RUNNING"
        jobs.end_of_earlier("/data/another", server.endpoint, None, cancel=False)  # is not its job
        assert capsys.readouterr().err == ""
        with jobs.Server(server.endpoint) as asked:
            (at_work,) = asked.at_work(OUT)
        assert (at_work.id, at_work.stage, at_work.name) == (job, "plan", jobs.name_of(OUT, "plan"))
        threading.Timer(1.0, (tmp_path / "may_end").touch).start()
        jobs.end_of_earlier(OUT, server.endpoint, None, cancel=False)
    said = capsys.readouterr().err
    assert f"job {job} " in said and "--cancel-running" in said and f"job {job} ended DONE" in said
    assert (tmp_path / "ended").exists()


def test_a_job_of_an_earlier_start_is_ended_where_that_is_asked_for(
    server: JobServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with lasting(server, tmp_path) as driver:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        assert driver.stdout is not None
        _, job = driver.stdout.readline().split()
        known = Job(stage="plan", name="called otherwise", id=job, endpoint=server.endpoint)
        gone = Job(stage="plan", name="", id=job, endpoint="localhost:1")
        ended = Job(stage="plan", name="", id=job, endpoint=server.endpoint, state="DONE")
        jobs.end_of_earlier("/data/other", "", ended, cancel=True)  # nobody is asked
        jobs.end_of_earlier("/data/other", "", gone, cancel=True)  # its server is gone
        assert capsys.readouterr().err == ""
        jobs.end_of_earlier("/data/other", "", known, cancel=True)
        assert "ended CANCELLED" in capsys.readouterr().err


def test_a_job_server_that_dies_is_one_sentence(server: JobServer, tmp_path: Path) -> None:
    with lasting(server, tmp_path) as driver:
        server.process.kill()
        server.process.wait()
        told, said = driver.communicate(timeout=60)
    last = told.splitlines()[-1]
    assert re.fullmatch(r"the job server of the job job-\S+ on PortableRunner is lost \(.*\): start .* to go on", last)
    assert "Traceback" not in said


def ends(server: JobServer, job: str) -> str:
    """The state in which a job ends."""
    with jobs.Server(server.endpoint) as asked:
        return asked.wait(Job(stage="", name="", id=job))


def test_ctrl_c_ends_the_job_with_its_driver(server: JobServer, tmp_path: Path) -> None:
    with lasting(server, tmp_path) as driver:
        assert driver.stdout is not None
        _, job = driver.stdout.readline().split()
        driver.send_signal(signal.SIGINT)
        driver.wait(60)
        assert ends(server, job) == "CANCELLED"


def test_a_job_that_somebody_ends_is_one_sentence_and_its_state_is_kept(server: JobServer, tmp_path: Path) -> None:
    with lasting(server, tmp_path) as driver:
        assert driver.stdout is not None
        _, job = driver.stdout.readline().split()
        jobs.cancel(Job(stage="", name="", id=job, endpoint=server.endpoint))
        told, said = driver.communicate(timeout=60)
    state, last = told.splitlines()
    assert state == f"CANCELLED {job}" and "Traceback" not in said
    assert re.fullmatch(rf"the job {job} on PortableRunner ended CANCELLED \(.*\): mend .* to go on", last)


def fails(_: int) -> None:
    raise ValueError("three is no number")


def test_a_job_that_fails_tells_its_id_and_the_first_cause(server: JobServer) -> None:
    with pytest.raises(Stopped) as stopped:
        Engine(server.flags, 1).run(lambda p: p | beam.Create([3]) | beam.Map(fails))
    assert re.search(r"job job-\S+ on PortableRunner", str(stopped.value)) and len(str(stopped.value).splitlines()) == 1


JAVA = "x\njava.lang.RuntimeException: Error received\nTraceback (most recent call last):\n  File a\n"
CAUSES = [
    (JAVA + "ValueError: it is odd [while running 'B']\n", "ValueError: it is odd"),
    ("Traceback:\nModuleNotFoundError: No module named 'wit'\n", "ModuleNotFoundError: No module named 'wit'"),
    ("a.b.IOException: a\n\tat b.c(D.java:1)\nCaused by: e.G: disk\n\tat h\nCaused by: i.J: no room\n", "i.J: no room"),
    (
        "Pipeline job-1 failed in state CANCELLED: unknown error",
        "Pipeline job-1 failed in state CANCELLED: unknown error",
    ),
    ("", "RuntimeError"),
]


@pytest.mark.parametrize("text, cause", CAUSES)
def test_the_first_cause_is_one_line(text: str, cause: str) -> None:
    assert jobs.cause(RuntimeError(text)) == cause


def test_a_build_on_a_job_server_is_that_of_this_machine_and_its_run_file_names_the_job(
    server: JobServer, upgrade: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.build import main

    with upgrade.web() as port:
        sets = {}
        for name, flags in {"here": (), "there": (*server.flags, "--fetch-workers=2")}.items():
            (tmp_path / name).mkdir()
            monkeypatch.chdir(tmp_path / name)
            assert main([*upgrade.inputs(tmp_path / name, port), *flags]) == 0
            said = capsys.readouterr().err
            done = dict(re.findall(r"^(\w+) +([\d,]+) (?:units|files|shards|raw shards)\b", said, re.MULTILINE))
            assert {"candidates", "plan", "download", "select", "publish"} <= done.keys() and "0" not in done.values()
            sets[name] = {
                path.relative_to(tmp_path / name): path.read_bytes()
                for stage in ("plan", "select", "shards")
                for path in (tmp_path / name / "set" / stage).iterdir()
                if path.suffix in (".parquet", ".tar")
            }
    assert sets["here"] == sets["there"]
    run = json.loads(Path("set/run.json").read_bytes())
    assert Job(**run["job"]).name == jobs.name_of(str(tmp_path / "there" / "set"), "report")
    assert run["job"]["state"] == "DONE" and run["job"]["endpoint"] == server.endpoint
    assert not [path for path in Path("set").iterdir() if path.name in ("_turns", "_work")]
    assert (
        "Traceback" not in said
        and len(re.findall(r"^workers    PortableRunner: wit \S+ with Beam", said, re.MULTILINE)) == 1
    )


@pytest.mark.parametrize(
    "lacks, said",
    [
        ("sys.modules['pipelines.probe'] = None", "cannot run the package (ModuleNotFoundError: "),
        (
            "import importlib.metadata as m; real = m.version; m.version = lambda n: '0.0.1' if n == 'wit' else real(n)",
            "have wit 0.0.1 ",
        ),
        (
            "import wit.store.fs as fs; fs.write_bytes = lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, 'no'))",
            "must reach --output",
        ),
        ("import wit.store.fs as fs; fs.write_bytes = lambda *_, **__: None", "must be the same place on all machines"),
    ],
)
def test_a_worker_that_could_not_do_its_part_is_found_out_before_the_first_stage(
    lacks: str,
    said: str,
    upgrade: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from pipelines.build import main

    (tmp_path / "site").mkdir()
    late = "import sys, threading\nsys.path.insert(0, '')\n" if "wit.store" in lacks else "import sys\n"
    (tmp_path / "site" / "sitecustomize.py").write_text(late + lacks + "\n")
    monkeypatch.chdir(tmp_path)
    with upgrade.web() as port, job_server(tmp_path, str(tmp_path / "site")) as server:
        assert main([*upgrade.inputs(tmp_path, port), *server.flags, "--fetch-workers=2"]) == 2
    told = capsys.readouterr().err
    assert said in told.splitlines()[-1] and "Traceback" not in told
    assert not (tmp_path / "set/candidates").exists()


def test_a_runner_that_takes_no_job_says_why(
    upgrade: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.build import main

    monkeypatch.chdir(tmp_path)
    with upgrade.web() as port:
        assert main([*upgrade.inputs(tmp_path, port), "--runner=PortableRunner", "--fetch-workers=2"]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("stopped: PortableRunner does not take the job (You must specify a --job_endpoint")


LAUNCHER = """#!/bin/sh
# stands for Java, and begins Beam's job server in Python, at the port that it is told
while [ "$1" != --job-port ]; do shift; done
PYTHONPATH={root} exec {python} -m apache_beam.runners.portability.local_job_service_main --port=$2 --staging_dir={folder}/staged
"""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Beam leaves the server's pipe open
@pytest.mark.parametrize("fails", [False, True])
def test_a_job_server_that_beam_starts_ends_with_its_job(fails: bool, tmp_path: Path) -> None:
    launcher, jar = tmp_path / "java", tmp_path / "server.jar"
    launcher.write_text(LAUNCHER.format(root=ROOT, python=sys.executable, folder=tmp_path), encoding="utf-8")
    launcher.chmod(0o755)
    jar.touch()
    told: list[Job] = []
    flags = ["--runner=SparkRunner", f"--spark_job_server_jar={jar}", f"--job_server_java_launcher={launcher}"]
    engine = Engine((*flags, "--environment_type=beam:env:embedded_python:v1"), 1, on_job=told.append)
    for _ in range(2):
        with pytest.raises(Stopped) if fails else contextlib.nullcontext():
            engine.run(lambda p: p | beam.Create(["text"]) | beam.Map(int if fails else len))
        assert told and told[-1].state == ("FAILED" if fails else "DONE")
        until(lambda: not jobs.listens(told[-1].endpoint), 20)
    assert len({job.endpoint for job in told}) == 2, "a test of nothing"
