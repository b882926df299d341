"""The files of a source, from a path, a glob or a list of paths."""

from __future__ import annotations

import glob
import gzip
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wit.errors import InputError
from wit.sources.batch import SourceFile
from wit.sources.config import SourceConfig
from wit.sources.reading import RequestBudget
from wit.store import fs

LIST_NAME = re.compile(r"\.(paths|list|lst|txt)(\.gz)?$", re.IGNORECASE)


def no_check(files: Sequence[SourceFile]) -> None:
    """Passes all files: nothing is known of their content before they are read."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of files. `ours` tells by its name whether a file in a directory is of the kind; `check` raises InputError where a
    file cannot be of it."""

    name: str
    ours: Callable[[str], bool]
    check: Callable[[Sequence[SourceFile]], None] = no_check
    listed: bool = True
    """Whether a path with the ending of a list (.txt, .paths) means the files in the list, not itself."""


def files_of(kind: FileKind, spec: str, config: SourceConfig, budget: RequestBudget | None) -> list[SourceFile]:
    """The files that a path, a glob or a list names, each once: those of a glob sorted, those of a list in its order.

    A list is a text file of paths, one a line: `@FILE`, or, for kinds that may be listed, a file named .txt, .list or
    .paths, also .gz, as Common Crawl's wat.paths.gz. Paths that begin with crawl-data/ lie under `cc_base`. Raises InputError
    with the fix where there are no files.
    """
    listed = _is_list(kind, spec)
    paths = _listed(spec, config.cc_base) if listed else _globbed(spec, kind)
    for path in paths:
        fs.check_text(path)
    columns = (config.url_col, config.caption_col, config.encoding)
    files = [
        SourceFile(kind.name, path, *columns, size=_size(path), version=_version(path, listed))
        for path in dict.fromkeys(paths)
    ]
    kind.check(files)
    return files


def _is_list(kind: FileKind, path: str) -> bool:
    return path.startswith("@") or (kind.listed and "*" not in path and bool(LIST_NAME.search(path)))


def _globbed(pattern: str, kind: FileKind) -> list[str]:
    """The files of a path, a directory or a glob. A file that exists is no glob, even with brackets in its name."""
    if fs.exists(pattern) and not fs.is_dir(pattern):
        return [pattern]
    if fs.is_dir(pattern):
        inner = fs.glob(fs.join(glob.escape(pattern), "**"))
        inside = [path for path in inner if _is_of_kind(kind, path, pattern)]
        if not inside:
            raise InputError(
                f"no {kind.name} file in the directory {pattern}: name the files in --source {kind.name}:{pattern}"
            )
        return inside
    if not any(mark in pattern for mark in "*?["):
        raise InputError(f"no such file: {pattern}; check the path in --source {kind.name}:{pattern}")
    files = [path for path in fs.glob(pattern) if not _is_beside(path)]
    if not files:
        raise InputError(f"no file matches {pattern}; check the path in --source {kind.name}:{pattern}")
    return files


def _is_beside(path: str) -> bool:
    """Whether a file only stands beside others: Spark's _SUCCESS, checksums, hidden files of an editor or a system."""
    name = fs.name_of(path)
    return name.startswith(("_", ".")) or name.endswith(".crc")


def _is_of_kind(kind: FileKind, path: str, folder: str) -> bool:
    """Whether a file in a folder is a source of the kind. Files that `_is_beside` names, or in such a folder, are none."""
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


DIGESTED_BYTES = 64 << 20  # a tenth of a second; up to this size a copy or a touch changes no version


def version_of(path: str) -> str | None:
    """A text that changes with a file's content: the digest of a small local file, the modification time of a larger one, the
    store's version of any other (None if it tells none). Raises InputError where the file cannot be read."""
    try:
        if fs.is_local(path) and fs.size(path) <= DIGESTED_BYTES:
            return f"sha256 {fs.sha256_file(path)}"
        return fs.version(path)
    except OSError as error:
        raise InputError(f"the source {path} cannot be read: {error}") from error


def _version(path: str, listed: bool) -> str | None:
    """As `version_of`, but None for a list's files elsewhere: each would cost a request, and crawls do not change."""
    if listed and not (fs.is_local(path) and fs.exists(path)):
        return None
    return version_of(path)


def _size(path: str) -> int | None:
    """The size of a local file in bytes; None for others, which would cost a request each."""
    return fs.size(path) if fs.is_local(path) and fs.exists(path) else None
