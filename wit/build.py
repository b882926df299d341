"""The start of a build: the checks before anything is written, and a run.json that takes over from the last start's."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import secrets
from collections.abc import Sequence
from importlib.metadata import version

from wit import layout
from wit.candidates import language
from wit.config import BuildConfig
from wit.damage import missed
from wit.download.retry import has_failed
from wit.errors import InputError
from wit.fetch import limits
from wit.fingerprints import gone_of
from wit.images.blocklist import load_blocklist
from wit.querylist import load_queries
from wit.resume import Stage
from wit.runfile import Rebuild, Retry, RunFile, load_run
from wit.score import Scorer
from wit.sources import SourceFile, list_sources, made_here
from wit.sources.tables import check_hashes
from wit.stages import STAGES, from_stage
from wit.store import fs, uploads
from wit.store.scratch import sweep_scratch
from wit.store.web import is_web
from wit.typed import to_json

# What a start may have made before run.json is there.
BEFORE_RUN_FILE = (layout.LOCK_FILE, layout.LEASES, layout.OLD_LEASE, layout.SCRATCH, layout.DEMO)
TABLES_LOOKED_AT = 8  # for a column of hashes: all tables are of one list
PACKAGES = ("apache-beam", "pyarrow", "numpy", "pillow", "pycurl", "fastwarc", "cykooz.resizer")


def check_files(config: BuildConfig) -> None:
    """Raises InputError where a file that a flag names is of no use for it: a worker would find out too late. Sources, queries
    and the checkpoint are checked elsewhere."""
    if (model := config.candidates.language_model) is None:
        language.check_codes(config.candidates.languages)
    else:  # a model may have labels of its own
        language.check_model(model)
    load_blocklist(config.image.blocked_hashes)
    limits.read(config.fetch.host_limits)
    config.fetch.check_ca_file()


def check_sources(config: BuildConfig) -> list[SourceFile]:
    """The files of all sources but those made here. Raises InputError where a source has no such file, or a file lacks a column
    that the settings read."""
    made = made_here(config.source)
    # Hosts of a web made here are asked without patience; strangers' robots.txt would be, too.
    if made and len(set(config.source)) > 1:
        raise InputError(
            f"--source {made[0].usage} is asked without any patience, since its web is on this machine: build the other sources "
            "apart, with another --output"
        )
    files = [file for spec in config.source for file in _listed(spec, config)]
    if config.image.verify_hash is not None:
        cheap = [file for file in files if file.size is not None]
        check_hashes(cheap[:TABLES_LOOKED_AT], config.image.verify_hash)
    if "download" in config.stage_names() and not made:
        config.fetch.check()
    return files


def _listed(spec: str, config: BuildConfig) -> list[SourceFile]:
    """The files of a source. A local one has an absolute path, for the workers, and a label as the user wrote it, for tables."""
    files = list_sources(spec, config.sources, budget=config.sources.budget(1))
    return [
        dataclasses.replace(file, path=os.path.abspath(file.path), label=file.path) if fs.is_local(file.path) else file
        for file in files
    ]


def absolute(config: BuildConfig) -> BuildConfig:
    """The configuration with absolute paths: workers of an engine have working directories of their own."""
    local = {
        name: os.path.abspath(getattr(config, name))
        for name in ("output", "queries", "score_checkpoint")
        if getattr(config, name) is not None and fs.is_local(getattr(config, name))
    }
    if config.fetch.host_limits and fs.is_local(config.fetch.host_limits):
        fetch = dataclasses.replace(config.fetch, host_limits=os.path.abspath(config.fetch.host_limits))
        config = dataclasses.replace(config, fetch=fetch)
    return dataclasses.replace(config, **local)


def check_output(out: str, seed: int | None) -> None:
    """Raises InputError where OUT is a file or holds something that no build wrote. A set without its run.json passes, given a
    seed; a wrong seed is refused later, where fingerprints are compared."""
    if is_web(out):
        raise InputError(
            f"--output {out} is an address that can only be read: give a directory, s3://, gs:// or hdfs://"
        )
    if fs.exists(out) and not fs.is_dir(out):
        raise InputError(f"--output {out} is a file: choose a directory")
    there = fs.list_dir(out)
    names = [name for name in there if name not in BEFORE_RUN_FILE and not name.endswith(layout.UNFINISHED)]
    if names and layout.RUN_FILE not in names:
        if not any(fs.exists(layout.manifest_path(out, stage)) for stage in STAGES):
            raise InputError(
                f"--output {out} holds files of something else ({names[0]}, ...): choose an empty directory"
            )
        if seed is None:
            raise InputError(f"{fs.join(out, 'run.json')} is gone: {missed('run.json')}")
    for name in sorted(layout.DIRECTORIES.intersection(there)):
        if not fs.is_dir(fs.join(out, name)):
            raise InputError(f"{fs.join(out, name)} stands where a directory belongs: move it away")


def clear_up(out: str) -> None:
    """Removes what a killed run left unfinished; each stage does that in its own directory. The file of host rates (`places`)
    stays: it says when hosts may be asked again."""
    sweep_scratch()
    scratch = fs.join(out, layout.SCRATCH)
    for name in fs.list_dir(scratch):
        if name != layout.PLACES_FILE or fs.size_of_file(fs.join(scratch, name)) is None:
            fs.remove(fs.join(scratch, name))
    folders = (layout.LEDGER, layout.directory_of("report"), layout.LEASES)
    for folder in (out, *(fs.join(out, name) for name in folders)):
        for name in fs.list_dir(folder):
            if name.endswith(layout.UNFINISHED):
                fs.remove(fs.join(folder, name))
    uploads.sweep(out)


def begin(
    config: BuildConfig,
    sources: Sequence[SourceFile],
    beam_flags: Sequence[str],
    scorer: Scorer | None,
    before: RunFile | None,
) -> RunFile:
    """run.json of this start, with what it takes over from the last one."""
    fresh = RunFile(config={}, seed=secrets.randbits(63), queries_sha256="", sources=())
    last = before or fresh
    given = {
        "config": dataclasses.asdict(config),
        "seed": config.seed if config.seed is not None else last.seed,
        "queries_sha256": load_queries(config.queries).digest,
        "sources": [dataclasses.asdict(source) for source in sources],
        "beam_flags": list(beam_flags),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "gone": gone_of(before),
        "score_model": {"name": scorer.model, "sha256": scorer.sha256} if scorer else None,
    }
    run = load_run(json.loads(to_json(given)))  # as the next start will read it
    return dataclasses.replace(
        run,
        fingerprints=dict(last.fingerprints),
        timings_s=dict(last.timings_s),
        peak_memory_mb=last.peak_memory_mb,
        workers=last.workers,
        asked_again=last.asked_again,
        stages=dict(last.records),
        at_work=list(STAGES) if last.at_work is None else last.at_work,
        rebuild=_rebuild(config, last.rebuild),
        retry=last.retry,
    )


def _rebuild(config: BuildConfig, last: Rebuild) -> Rebuild:
    """What to make anew: what --rebuild-from asks for; or what the last start left of its own, if that is the same or this start
    asks for nothing."""
    asked = config.rebuild_from
    if asked is None or (last.pending and last.from_ == asked):
        return dataclasses.replace(last)
    return Rebuild(asked, [name for name in from_stage(asked) if name in config.stage_names()], [])


def round_of_retries(config: BuildConfig, run: RunFile, download: Stage) -> tuple[Retry, int]:
    """(the round of retries, with the stages still to run for it; how many rounds the raw shards will have then).

    The same command resumes a round that was killed, at whatever stage. Once the round's last stage has run, the command asks
    for another round, if anything is left to retry."""
    anew = "download" in run.rebuild.pending
    done = 0 if anew else download.retries
    lost = None if anew else download.manifest or (download.record.tally if download.record else None)
    last, reasons = run.retry, list(config.retried_reasons())
    if not reasons:
        return last, done
    if last.pending and last.reasons == reasons and last.round in (done, done + 1):
        return last, last.round
    if not anew and download.finished and (lost is None or not has_failed(lost, reasons)):
        return Retry(), done
    pending = [name for name in from_stage("download") if name in config.stage_names()]
    return Retry(reasons, done + 1, pending), done + 1
