"""The start of a build: what is checked before anything is written, and what its run.json takes over from the last start."""

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
from wit.store import fs
from wit.typed import to_json

TABLES_LOOKED_AT = 8  # for a column of hashes: they are of one list
PACKAGES = ("apache-beam", "pyarrow", "numpy", "pillow", "pycurl", "fastwarc", "cykooz.resizer")


def check_files(config: BuildConfig) -> None:
    """Raises InputError where a file that a flag names, beside the sources, the queries and the checkpoint, is not what it is
    for: workers would tell it too late."""
    if (model := config.candidates.language_model) is None:
        language.check_codes(config.candidates.languages)
    else:  # which may have labels of its own
        language.check_model(model)
    load_blocklist(config.image.blocked_hashes)
    limits.read(config.fetch.host_limits)
    config.fetch.check_ca_file()


def check_sources(config: BuildConfig) -> list[SourceFile]:
    """The files of all sources that are not made here; raises InputError where one is none, or lacks what the settings read of
    it."""
    files = [file for spec in config.source for file in _listed(spec, config)]
    if config.image.verify_hash is not None:
        cheap = [file for file in files if file.size is not None]
        check_hashes(cheap[:TABLES_LOOKED_AT], config.image.verify_hash)
    if "download" in config.stage_names() and not made_here(config.source):
        config.fetch.check()
    return files


def _listed(spec: str, config: BuildConfig) -> list[SourceFile]:
    """The files of a source; local ones by absolute path for the workers, and as the user wrote them for the tables."""
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
    """Raises InputError where OUT is no directory, or one of something else. A set whose run.json is gone is ours, and a seed
    that does not fit its fingerprints is refused where they are compared."""
    if fs.exists(out) and not fs.is_dir(out):
        raise InputError(f"--output {out} is a file: choose a directory")
    there = fs.list_dir(out)
    names = [name for name in there if name not in (layout.LOCK_FILE, layout.LEASE_FILE, layout.SCRATCH)]
    names = [name for name in names if not name.endswith(fs.UNFINISHED)]
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
    """Removes work in progress of a run that was killed; in the stages' directories each stage does that. When hosts may be
    asked again is kept, where it is the file that it was."""
    scratch = fs.join(out, layout.SCRATCH)
    for name in fs.list_dir(scratch):
        if name != layout.PLACES_FILE or fs.size_of_file(fs.join(scratch, name)) is None:
            fs.remove(fs.join(scratch, name))
    for folder in (out, fs.join(out, layout.LEDGER), layout.stage_path(out, "report")):
        for name in fs.list_dir(folder):
            if name.endswith(fs.UNFINISHED):
                fs.remove(fs.join(folder, name))


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
        stages=dict(last.records),
        at_work=list(STAGES) if last.at_work is None else last.at_work,
        rebuild=_rebuild(config, last.rebuild),
        retry=last.retry,
    )


def _rebuild(config: BuildConfig, last: Rebuild) -> Rebuild:
    """What --rebuild-from asks for: what the last start was at, if it is the same."""
    asked = config.rebuild_from
    if asked is None or (last.pending and last.from_ == asked):
        return dataclasses.replace(last)
    return Rebuild(asked, [name for name in from_stage(asked) if name in config.stage_names()], [])


def round_of_retries(config: BuildConfig, run: RunFile, download: Stage) -> tuple[Retry, int]:
    """(the round of retries with the stages that are still to run for it, the rounds that the raw shards will have).

    A round that was killed, at whatever stage, is gone on with by the same command; once its last stage has run the command
    asks for another one, where anything is left to retry."""
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
