"""Engines on loopback, for tests: Spark (embedded, and a cluster of two workers), Flink and Prism behind Beam's job servers.

What they are made of is kept in the folder WIT_ENGINES, by default ~/.cache/wit/engines, and fetched where it is not there: jars
by Maven, Beam's boot program and Prism by Go, Spark by pip. Beam's ready-made job server is not needed: it is a main class and
libraries, of which 2.62.0 is the newest complete set on Maven Central's mirrors; it speaks with Python 2.77.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipelines.jobs import free_port, listens

ROOT = Path(__file__).parents[2]
HOME = Path(os.environ.get("WIT_ENGINES", Path.home() / ".cache" / "wit" / "engines")).absolute()
JAVA_BEAM, PYTHON_BEAM, SPARK, LOGS = "2.62.0", "2.77.0", "3.5.6", "1.7.30"
PROGRAMS = {
    "boot": f"github.com/apache/beam/sdks/v2/python/container@v{PYTHON_BEAM}",
    "prism": f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{PYTHON_BEAM}",
}
CALLED = {"boot": "container", "prism": "prism"}
LIBRARIES = {"spark": "beam-runners-spark-3", "flink": "beam-runners-flink-1.19"}
DRIVERS = {
    "spark": "org.apache.beam.runners.spark.SparkJobServerDriver",
    "flink": "org.apache.beam.runners.flink.FlinkJobServerDriver",
}
OPENED = (
    "java.lang java.lang.invoke java.lang.reflect java.io java.net java.nio java.util java.util.concurrent "
    "java.util.concurrent.atomic sun.nio.ch sun.nio.cs sun.security.action sun.util.calendar"
).split()
OPENS = [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in OPENED]
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>wit</groupId><artifactId>job-server</artifactId><version>1</version><dependencies>
<dependency><groupId>org.apache.beam</groupId><artifactId>{library}</artifactId><version>{beam}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>{logs}</version></dependency>
</dependencies></project>
"""
LOOPBACK = ("--environment_type=LOOPBACK",)


def need(command: str, what: str) -> str:
    """The path of a command; raises RuntimeError that says what it is for."""
    if (path := shutil.which(command)) is None:
        raise RuntimeError(f"{command} is missing, which fetches {what} into {HOME}: install it, or put that there")
    return path


def run(command: Sequence[str], what: str, **more: object) -> None:
    """Runs a command that fetches something; raises RuntimeError with its last words where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    if done.returncode:
        words = " ".join(f"{done.stdout}\n{done.stderr}".split()[-40:])
        raise RuntimeError(f"{what} cannot be fetched by `{' '.join(command)}`: {words}")


def program(name: str) -> Path:
    """Beam's boot program of Python workers, or Prism."""
    path = HOME / "bin" / CALLED[name]
    if not path.exists():
        go = need("go", name)
        run([go, "install", PROGRAMS[name]], name, env={**os.environ, "GOBIN": str(path.parent)})
    return path


def jars(engine: str) -> Path:
    """The folder of the jars of an engine's job server."""
    folder = HOME / engine
    if not (folder / "whole").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pom.xml").write_text(POM.format(library=LIBRARIES[engine], beam=JAVA_BEAM, logs=LOGS))
        maven = [need("mvn", "jars"), "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]
        run([*maven, f"-DoutputDirectory={folder / 'lib'}"], f"the jars of {engine}", cwd=folder)
        (folder / "whole").touch()
    return folder / "lib"


def spark_home() -> Path:
    """Spark, as its Python package brings it."""
    folder = HOME / f"pyspark-{SPARK}"
    if not (folder / "whole").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        run([*pip, f"pyspark=={SPARK}"], "Spark")
        (folder / "whole").touch()
    return folder / "pyspark"


def package(folder: Path) -> Path:
    """A folder with the package as a wheel brings it, for workers that have no source tree."""
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "--quiet"]
    run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT)], "the package")
    installed = folder / "installed"
    (wheel,) = wheels.glob("*.whl")
    run([*pip, "install", "--no-deps", "--target", str(installed), str(wheel)], "the package")
    return installed


def until(done: Callable[[], object], what: str, seconds: float = 90.0) -> None:
    """Returns when it is done; raises RuntimeError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


@contextlib.contextmanager
def started(command: Sequence[object], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the block; at its end it and all below it are ended, by their ids."""
    with log.open("ab") as out:
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=out, env={**os.environ, **environment})
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            _, alive = psutil.wait_procs([*below, psutil.Process(process.pid)], timeout=10)
            for one in alive:
                one.kill()
        process.wait(30)


@contextlib.contextmanager
def job_server(engine: str, folder: Path, master: str) -> Iterator[str]:
    """HOST:PORT of Beam's job server for an engine, whose master it is told."""
    port, lib = free_port(), jars(engine)
    path = [f"{lib}/*"]
    if engine == "spark":
        path.append(f"{spark_home()}/jars/*")
    flag = {"spark": "--spark-master-url", "flink": "--flink-master"}[engine]
    command = [need("java", "no jar"), *OPENS, "-cp", os.pathsep.join(path), DRIVERS[engine], flag, master]
    command += ["--job-port", str(port), "--artifact-port", "0", "--expansion-port", "0"]
    command += ["--artifacts-dir", str(folder / "artifacts")]
    with started(command, folder / f"{engine}-job-server.log") as process:
        until(lambda: listens(f"127.0.0.1:{port}") or process.poll() is not None, f"the job server of {engine}")
        yield f"localhost:{port}"


def beam_by_name(folder: Path) -> str:
    """The flag of a build that ships the names of Beam's jars to Spark's executors, which have them. Without it Beam ships all
    that stands in the job server's class path, 418 MB, to each of them for every job."""
    return f"--files_to_stage={pathing_jar(folder / 'beam.jar', sorted(jars('spark').glob('*.jar')))}"


def pathing_jar(path: Path, jars: Sequence[Path]) -> Path:
    """A jar that holds nothing but the names of others."""
    line, lines = "Class-Path: " + " ".join(one.as_uri() for one in jars), []
    while line:  # a line of a manifest has at most 72 bytes; the next ones begin with a space
        lines.append(line[:70])
        line = " " + line[70:] if line[70:] else ""
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\n" + "\r\n".join(lines) + "\r\n\r\n")
    return path


@dataclass(frozen=True)
class Cluster:
    """A Spark master and its workers."""

    master: str
    workers: tuple[subprocess.Popen[bytes], ...]

    def executors(self) -> list[psutil.Process]:
        """The executors that are at work, the oldest first."""
        below = [child for worker in self.workers for child in psutil.Process(worker.pid).children(recursive=True)]
        named = [one for one in below if _is_executor(one)]
        return sorted(named, key=lambda one: one.create_time())


def _is_executor(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any("CoarseGrainedExecutorBackend" in word for word in process.cmdline()) and process.name() == "java"
    return False


@contextlib.contextmanager
def spark_cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """A standalone Spark: one master, and workers with one core each."""
    spark = spark_home()
    port, kept = free_port(), {"SPARK_HOME": str(spark), "SPARK_LOCAL_IP": "127.0.0.1"}
    kept["SPARK_WORKER_OPTS"] = "-Dspark.worker.cleanup.enabled=true -Dspark.worker.cleanup.interval=60"
    kept["SPARK_DAEMON_JAVA_OPTS"] = " ".join(OPENS)
    named = "org.apache.spark.deploy"
    begin = [spark / "bin/spark-class"]
    master = [*begin, f"{named}.master.Master", "--host", "127.0.0.1", "--port", port, "--webui-port", free_port()]
    with contextlib.ExitStack() as stack:
        stack.enter_context(started(master, folder / "master.log", **kept))
        until(lambda: listens(f"127.0.0.1:{port}"), "Spark's master")
        url = f"spark://127.0.0.1:{port}"
        at_work = []
        for number in range(workers):
            worker = [*begin, f"{named}.worker.Worker", "--cores", 1, "--memory", "2g", "--host", "127.0.0.1"]
            worker += ["--webui-port", free_port(), "--work-dir", folder / f"work{number}", url]
            at_work.append(stack.enter_context(started(worker, folder / f"worker{number}.log", **kept)))
        until(lambda: all("registered with master" in log.read_text() for log in _logs(folder, workers)), "workers")
        yield Cluster(url, tuple(at_work))


def _logs(folder: Path, workers: int) -> list[Path]:
    return [folder / f"worker{number}.log" for number in range(workers)]


def workers_of_their_own(folder: Path) -> tuple[str, ...]:
    """Flags of a build whose Python workers are started by the engine's own: from the package alone, and never outliving whoever
    started them (Beam's boot program goes on for minutes after its executor was killed)."""
    script = folder / "boot.sh"
    lines = [
        "#!/bin/sh",
        f"export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={package(folder)}",
        "export RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1",
        f'cd {folder} && exec setpriv --pdeathsig KILL {program("boot")} "$@"',
    ]
    script.write_text("\n".join(lines) + "\n")
    script.chmod(0o755)
    return (
        "--environment_type=PROCESS",
        f'--environment_config={{"command": "{script}"}}',
        "--environment_cache_millis=60000",
    )
