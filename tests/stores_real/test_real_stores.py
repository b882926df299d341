"""Against servers that speak the protocols of S3 and GCS, by `make test-stores`: races, leases, builds, what kills leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from wit.store import fs, lease, uploads
from wit.store.listing import listed, names_in

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import races
import servers

pytestmark = [pytest.mark.stores, pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]
BUILD = ("--queries", str(servers.ROOT / "queries" / "500k.txt"), "--seed", "7", "--limit", "400")
STAGES = ("candidates", "plan", "download", "select", "publish", "report")
COMPARED = ("candidates", "plan", "select", "shards")
ROUNDS = 200


@pytest.fixture(scope="module", params=servers.SERVERS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty bucket of a server that runs for this module; its environment is this process's, too."""
    server, before = servers.SERVERS[request.param], dict(os.environ)
    with servers.running(server, tmp_path_factory.mktemp(server.program)) as environment:
        os.environ.update(environment)
        yield f"{server.scheme}://{servers.BUCKET}"
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set on this machine."""
    out = tmp_path_factory.mktemp("local") / "set"
    built = run("pipelines.build", *BUILD, "--output", str(out))
    assert built.returncode == 0, built.stderr
    return out


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=servers.ROOT, capture_output=True, text=True, check=False)


def files(out: str) -> dict[str, bytes]:
    """The tables and tars, which must be the same wherever they are; markers bear the version of the source."""
    names = [f"{stage}/{name}" for stage in COMPARED for name in fs.list_dir(f"{out}/{stage}")]
    return {name: fs.read_bytes(f"{out}/{name}") for name in names if not name.endswith(".json")}


def test_of_many_processes_that_claim_exactly_one_wins(store: str) -> None:
    places = [f"{store}/claims/m{number}" for number in range(ROUNDS)]
    won = races.winners(places, races.claims)
    assert [[fs.read_bytes(place).decode()] for place in places] == won


def test_of_many_processes_that_take_a_lease_one_gets_it(store: str) -> None:
    won = races.winners([f"{store}/leases/{number}" for number in range(20)], races.leases)
    assert [len(names) for names in won] == [1] * 20


def test_a_directory_of_many_names_is_listed_whole(store: str) -> None:
    names = [f"{kind}-{number:05d}.json" for kind in ("merge", "thin") for number in range(0, 12_000, 8)]
    names += ["_MANIFEST.json", "r0001-0000.json", "plan-é.json", "deeper/a"]
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(lambda name: fs.write_bytes(f"{store}/many/{name}", b"x" * len(name)), names):
            pass
    found = listed([(f"{store}/many", "many/", ""), (f"{store}/many", "thin/", "thin-"), (f"{store}/gone", "", "")])
    sizes: dict[str, int | None] = {f"many/{name}": len(name) for name in names if "/" not in name} | {
        "many/deeper": None
    }
    assert dict(found) == sizes | {f"thin/{name}": len(name) for name in names if name.startswith("thin-")}
    assert {*names_in(f"{store}/many")} == {name for name in names if "/" not in name}


def test_a_set_is_built_checked_and_left_alone(store: str, local: Path) -> None:
    out = f"{store}/set"
    first = run("pipelines.build", *BUILD, "--output", out)
    assert first.returncode == 0, first.stderr
    assert files(out) == files(str(local))
    checked = run("pipelines.verify", out, "--level", "full")
    assert checked.returncode == 0 and "sound" in checked.stdout, checked.stdout
    versions = {name: fs.version(f"{out}/{name}") for name in fs.find(out) if name.startswith(COMPARED)}
    again = run("pipelines.build", *BUILD, "--output", out)
    finished = [line for line in again.stderr.splitlines() if "finished before" in line]
    assert again.returncode == 0 and finished == [f"{stage:<10} finished before" for stage in STAGES], again.stderr
    assert {name: fs.version(f"{out}/{name}") for name in versions} == versions


@pytest.mark.parametrize("sign", ["_lease/00000001.json", "candidates/_MANIFEST.json", "plan/_MANIFEST.json", "shards"])
def test_a_build_that_was_killed_goes_on_at_once(store: str, local: Path, sign: str) -> None:
    out = f"{store}/killed-{sign.partition('/')[0]}"
    command = [sys.executable, "-m", "pipelines.build", *BUILD, "--output", out]
    killed = subprocess.Popen(command, cwd=servers.ROOT, stderr=subprocess.DEVNULL)
    while not fs.exists(f"{out}/{sign}"):
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL and not fs.exists(f"{out}/README.md")
    again = run("pipelines.build", *BUILD, "--output", out)
    assert again.returncode == 0, again.stderr
    assert files(out) == files(str(local))
    assert "sound" in run("pipelines.verify", out, "--level", "full").stdout


def test_an_upload_that_a_killed_process_left_is_swept_and_no_other(store: str) -> None:
    if not store.startswith("s3"):
        pytest.skip("GCS lists no uploads, and forgets them after a week")
    client: Any = fs.file_system(store)[0]
    for key in ("swept/raw/a.tar", "swept-not/raw/a.tar"):
        client.call_s3("create_multipart_upload", Bucket=servers.BUCKET, Key=key)
    time.sleep(1.1)  # the store's times are whole seconds
    with lease.held(f"{store}/swept"):
        client.call_s3("create_multipart_upload", Bucket=servers.BUCKET, Key="swept/raw/b.tar")
        assert uploads.sweep(f"{store}/swept") >= 1
    left = [one["Key"] for one in uploads.unfinished(client, servers.BUCKET)]
    assert "swept/raw/a.tar" not in left and {"swept/raw/b.tar", "swept-not/raw/a.tar"} <= {*left}
