"""Servers of object stores on loopback: MinIO speaks S3, fake-gcs-server speaks GCS. For tests alone; wit ships neither."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = {"minio": "github.com/minio/minio@latest", "fake-gcs-server": "github.com/fsouza/fake-gcs-server@latest"}
BUCKET = "wit-tests"


@dataclass(frozen=True, slots=True)
class Server:
    """What a store's server is called, how it is started in a folder at a port, and what its clients find in the environment."""

    program: str
    scheme: str
    arguments: Callable[[Path, int], list[str]]
    environment: Callable[[int], dict[str, str]]


def of_s3(port: int) -> dict[str, str]:
    url, user = f"http://127.0.0.1:{port}", "minioadmin"
    named = {"AWS_ENDPOINT_URL": url, "FSSPEC_S3_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1"}
    return named | {
        name: user for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD")
    }


def of_gcs(port: int) -> dict[str, str]:
    named = {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}", "GOOGLE_CLOUD_PROJECT": "test"}
    # Without the last each bucket costs a minute, in which gcsfs asks by gRPC what kind of bucket it is.
    return named | {"FSSPEC_GS_TOKEN": "anon", "FSSPEC_GCS_TOKEN": "anon", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}


def minio(folder: Path, port: int) -> list[str]:
    return [
        "server",
        str(folder),
        "--address",
        f"127.0.0.1:{port}",
        "--console-address",
        f"127.0.0.1:{free_port()}",
        "--quiet",
    ]


def fake_gcs(folder: Path, port: int) -> list[str]:
    here = f"127.0.0.1:{port}"
    given = {"scheme": "http", "host": "127.0.0.1", "port": port, "filesystem-root": folder, "public-host": here}
    return [word for name, value in given.items() for word in (f"-{name}", str(value))] + [
        "-external-url",
        f"http://{here}",
    ]


SERVERS = {
    "s3": Server("minio", "s3", minio, of_s3),
    "gcs": Server("fake-gcs-server", "gs", fake_gcs, of_gcs),
}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def program(name: str) -> str:
    """The server's program: from the folder WIT_SERVERS, or build/servers; built there by Go where it is missing."""
    folder = Path(os.environ.get("WIT_SERVERS", ROOT / "build" / "servers")).absolute()
    if not (folder / name).exists():
        if shutil.which("go") is None:
            raise RuntimeError(f"{folder / name} is missing: put it there, or install Go, which builds it")
        environment = {**os.environ, "GOBIN": str(folder)}
        subprocess.run(["go", "install", SOURCES[name]], env=environment, check=True)
    return str(folder / name)


@contextlib.contextmanager
def running(server: Server, folder: Path) -> Iterator[dict[str, str]]:
    """What clients of the server need in their environment, while it runs, with an empty bucket BUCKET."""
    port, files = free_port(), folder / "files"
    (files / BUCKET).mkdir(parents=True)  # a folder is a bucket to both
    environment = server.environment(port)
    command = [program(server.program), *server.arguments(files, port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        wait_for(port, process, folder / "log")
        yield environment
    finally:
        process.terminate()
        process.wait(30)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when somebody listens there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"the server does not answer: {log.read_text(encoding='utf-8')[-500:]}")
