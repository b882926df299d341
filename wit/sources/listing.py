"""From a `--source` to its files."""

from __future__ import annotations

import glob
import gzip
import re
import zlib

from wit.errors import InputError
from wit.sources.batch import SourceFile
from wit.sources.commoncrawl import CC_BASE, list_crawl
from wit.sources.kinds import KINDS, SourceKind
from wit.sources.reading import RequestBudget
from wit.sources.tables import check_table, format_of
from wit.store import fs

HELP = f"demo, commoncrawl:CRAWL[:files=N] or {', '.join(f'{name}:GLOB' for name in KINDS)}"
CHECKED = 16  # tables that are looked into before anything starts
LIST_NAME = re.compile(r"\.(paths|list|lst|txt)(\.gz)?$", re.IGNORECASE)


def list_sources(
    spec: str,
    *,
    cc_base: str = CC_BASE,
    url_col: str | None = None,
    caption_col: str | None = None,
    encoding: str | None = None,
    budget: RequestBudget | None = None,
) -> list[SourceFile]:
    """The files that a `--source` means: those of a glob sorted, those of a list in its order, each once.

    A list is a text file of paths, one a line: `@FILE`, or for wat and warc a file named .txt, .list or .paths, also .gz
    (Common Crawl's own wat.paths.gz: paths that begin with crawl-data/ lie under `cc_base`). Raises InputError with the
    fix where the source is none, or has no files.
    """
    name, _, rest = spec.partition(":")
    if name == "commoncrawl" and rest:
        return [SourceFile("wat", path) for path in list_crawl(rest, base=cc_base, budget=budget)]
    kind = KINDS.get(name)
    if kind is None or not rest:
        raise InputError(f"not a source: {spec!r}; write {HELP}")
    listed = _is_list(kind, rest)
    paths = _listed(rest, cc_base) if listed else _globbed(rest, kind, spec)
    if kind.name == "table":
        for path in paths:
            format_of(path)
    for path in paths:
        fs.check_text(path)
    files = [
        SourceFile(kind.name, path, url_col, caption_col, encoding, size=_size(path), version=_version(path, listed))
        for path in dict.fromkeys(paths)
    ]
    for file in files[:CHECKED] if kind.name == "table" else ():
        if file.size is not None:
            check_table(file)
    return files


def _is_list(kind: SourceKind, path: str) -> bool:
    return path.startswith("@") or (kind.listed and "*" not in path and bool(LIST_NAME.search(path)))


def _globbed(pattern: str, kind: SourceKind, spec: str) -> list[str]:
    """The files of a path, a directory or a glob; a path may have brackets in it."""
    if fs.exists(pattern) and not fs.is_dir(pattern):
        return [pattern]
    if fs.is_dir(pattern):
        inner = fs.glob(fs.join(glob.escape(pattern), "**"))
        found = [path for path in inner if _is_of_kind(kind, path, pattern)]
        if not found:
            raise InputError(f"no {kind.name} file in the directory {pattern}: name the files in --source {spec}")
        return found
    if not any(mark in pattern for mark in "*?["):
        raise InputError(f"no such file: {pattern}; check the path in --source {spec}")
    files = [path for path in fs.glob(pattern) if not _is_beside(path)]
    if not files:
        raise InputError(f"no file matches {pattern}; check the path in --source {spec}")
    return files


def _is_beside(path: str) -> bool:
    """Whether a file only says something of others: Spark's _SUCCESS, checksums, what an editor or a system hides."""
    name = fs.name_of(path)
    return name.startswith(("_", ".")) or name.endswith(".crc")


def _is_of_kind(kind: SourceKind, path: str, folder: str) -> bool:
    """Whether a file in a folder is one of its sources; what is hidden there, or in a hidden folder of it, is none."""
    return not any(_is_beside(part) for part in path.removeprefix(folder).split("/") if part) and kind.ours(path)


def _listed(path: str, cc_base: str) -> list[str]:
    path = path.removeprefix("@")
    try:
        data = fs.read_bytes(path)
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"no such list of files: {path}; check the path") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no list of files: {error}; write one path a line, in UTF-8") from error
    lines = [line.strip() for line in text.splitlines()]
    files = [line for line in lines if line and not line.startswith("#")]
    if not files:
        raise InputError(f"{path} lists no files: write one path a line")
    return [fs.join(cc_base, line) if line.startswith("crawl-data/") else line for line in files]


DIGESTED_BYTES = 64 << 20  # a tenth of a second; a copy or a touch leaves a file of up to this size what it was


def version_of(path: str) -> str | None:
    """What changes with a file's content: of a small local one its digest, of a larger one its modification time, of others
    what their store says."""
    try:
        if fs.is_local(path) and fs.size(path) <= DIGESTED_BYTES:
            return f"sha256 {fs.sha256_file(path)}"
        return fs.version(path)
    except OSError as error:
        raise InputError(f"the source {path} cannot be read: {error}") from error


def _version(path: str, listed: bool) -> str | None:
    """As `version_of`. Of a list's files elsewhere nothing is asked: each would cost a request, and crawls do not change."""
    if listed and not (fs.is_local(path) and fs.exists(path)):
        return None
    return version_of(path)


def _size(path: str) -> int | None:
    """The size of a local file; others would cost a request each."""
    return fs.size(path) if fs.is_local(path) and fs.exists(path) else None
