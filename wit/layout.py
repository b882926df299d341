"""The name of everything under OUT (design section 4)."""

from __future__ import annotations

from wit.stages import KINDS

RUN_FILE = "run.json"
LEDGER_FILE, CARD_FILE, CROISSANT_FILE = "ledger.json", "README.md", "croissant.json"
PAGE_FILE = "report/index.html"
SOURCES_FILE, HOSTS_FILE, QUERIES_FILE = "ledger/sources.parquet", "ledger/hosts.parquet", "ledger/queries.parquet"
REPORT_FILES = (LEDGER_FILE, SOURCES_FILE, HOSTS_FILE, QUERIES_FILE, PAGE_FILE, CARD_FILE, CROISSANT_FILE)

DROPPED, RESTRICTED, LEDGER = "dropped", "restricted", "ledger"
APART = (DROPPED, RESTRICTED)  # labels of files that stand in a directory of their own
SCRATCH, WORK, RETRY, NEXT_SHARDS, DEMO = "_tmp", "_work", "_retry", "_shards", "_demo"
UNFINISHED = ".tmp"  # the end of the name of what a killed process left
LOCK_FILE, LEASES, OLD_LEASE = ".lock", "_lease", "_LEASE.json"  # of who builds; the last up to version 0.4
TURNS = "_turns"  # who is at work on which partition of a download, where an engine may run one twice
DIRECTORIES = frozenset([*APART, LEDGER, SCRATCH, WORK, RETRY, NEXT_SHARDS, DEMO, LEASES, TURNS]).union(
    kind.directory for kind in KINDS.values()
)
KNOWN_ENDING = ".robots.json"  # what servers told the owner of a partition, beside its raw shards
SIZES_FILE, SHARD_ENDING = "sizes.json", "_stats.json"
OUTAGE_FILE, DRAIN_FILE = "_OUTAGE.txt", "_DRAIN.txt"  # a worker's word that the network is away; the driver's to stop
REMOVED_FILE = "removed.txt"  # tombstones, in shards/
PLACES_FILE = "places"  # in which all workers of a build on this machine count their requests


def is_apart(name: str) -> bool:
    """Whether a file, by its name relative to OUT, stands in a directory of APART: no stage reads it."""
    return name.partition("/")[0] in APART


def directory_of(stage: str) -> str:
    """What a stage's directory is called."""
    return KINDS[stage].directory


def manifest_of(stage: str) -> str:
    """The name of a stage's manifest, relative to OUT."""
    return f"{directory_of(stage)}/{KINDS[stage].manifest}"


def under(out: str, *names: str) -> str:
    """A path below OUT."""
    return "/".join([out.rstrip("/"), *names])


def stage_path(out: str, stage: str) -> str:
    return under(out, directory_of(stage))


def manifest_path(out: str, stage: str) -> str:
    return under(out, manifest_of(stage))


def run_path(out: str) -> str:
    return under(out, RUN_FILE)


def shards_path(out: str) -> str:
    return stage_path(out, "publish")


def next_shards_path(out: str) -> str:
    """Where a set is made while another one stands in shards/."""
    return under(out, NEXT_SHARDS)


def work_of(stage: str) -> str:
    """The directory, relative to OUT, of what a stage keeps between its passes, as long as it is not finished."""
    return f"{WORK}/{stage}"


def retry_path(out: str, place: str) -> str:
    """The plan part of a round of retries, which stands only as long as the round runs."""
    return under(out, RETRY, f"part-{place}.parquet")


def retried_rows_path(out: str, partition: str) -> str:
    """The rows of a partition of the plan that a round of retries asks for again, until its plan parts are written."""
    return under(out, RETRY, f"rows-{partition}.parquet")
