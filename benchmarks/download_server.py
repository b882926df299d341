"""nginx on loopback, http and https with a certificate of its own, for bench_download; needs nginx and openssl on the path
(Debian: apt-get install nginx-light openssl)."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certifi


@dataclass(frozen=True)
class Server:
    http: str
    https: str
    ca: str


def free_port() -> int:
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        return int(probe_socket.getsockname()[1])


def check_programs() -> None:
    """Ends the benchmark at once where a program that it needs is missing, and says how to get it."""
    if missing := [name for name in ("nginx", "openssl") if shutil.which(name) is None]:
        sys.exit(
            f"this benchmark needs {' and '.join(missing)} on the path (Debian: apt-get install nginx-light openssl)"
        )


def certificate(folder: Path) -> None:
    """A certificate authority and a server certificate for 127.0.0.1, for this run only."""
    quiet: dict[str, Any] = {"cwd": folder, "check": True, "capture_output": True}
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    authority = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    subprocess.run([*new, "-x509", "-subj", "/CN=bench", "-keyout", "ca.key", "-out", "ca.pem", *authority], **quiet)
    subprocess.run([*new, "-subj", "/CN=127.0.0.1", "-keyout", "key.pem", "-out", "request.pem"], **quiet)
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    sign = ["openssl", "x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2"]
    subprocess.run([*sign, "-CAcreateserial", "-extfile", "san", "-out", "cert.pem"], **quiet)


def loopback(number: int) -> str:
    """A loopback address of its own for each of many hosts."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


@contextlib.contextmanager
def nginx(corpus: Path, addresses: int = 0) -> Iterator[Server]:
    """Serves the corpus on loopback, http and https, one worker; http on so many further addresses too."""
    with tempfile.TemporaryDirectory() as name:
        folder, plain, secure = Path(name), free_port(), free_port()
        folder.chmod(0o755)
        certificate(folder)
        (folder / "nginx.conf").write_text(f"""
            daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; worker_rlimit_nofile 16384;
            user root;
            events {{ worker_connections 14000; }}
            http {{
                types {{ image/jpeg jpg; image/png png; image/webp webp; image/gif gif; }}
                access_log off; sendfile on; keepalive_requests 1000;
                client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fcgi;
                uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
                server {{
                    listen 127.0.0.1:{plain} backlog=4096; listen 127.0.0.1:{secure} ssl backlog=4096;
                    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
                    {" ".join(f"listen {loopback(number)}:{plain} backlog=64;" for number in range(addresses))}
                    root {corpus.resolve()};
                }}
            }}""")
        command = ["nginx", "-c", str(folder / "nginx.conf"), "-p", name]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
            try:
                wait_for(plain)
                ca = folder / "bundle.pem"  # the usual bundle and ours: loading it is part of the cost
                ca.write_text(Path(certifi.where()).read_text(encoding="utf-8") + (folder / "ca.pem").read_text())
                yield Server(f"http://127.0.0.1:{plain}", f"https://127.0.0.1:{secure}", str(ca))
            finally:
                server.terminate()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError("nginx does not start: is it installed?")
