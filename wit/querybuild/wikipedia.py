"""Words and bigrams of a Wikipedia dump, and its titles with their page views.

A dump of the size of the English Wikipedia's (25 GB of bz2, some 4 billion words) is streamed file by file. Words are counted in
memory. Bigrams are too many for that: they are counted exactly, by sorting runs of them on disk.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import math
import multiprocessing
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import IO, cast
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from wit.arrays import Ints
from wit.candidates.words import END, cut_words, join_texts
from wit.errors import InputError
from wit.querybuild.wikitext import strip_wikitext
from wit.store import fs

BREAK = re.compile(r"[,;:!?()\n\"“”|/]+|\.(?=\s|$)")  # no bigram reaches across


@contextlib.contextmanager
def open_text(path: str) -> Iterator[IO[bytes]]:
    """The file as a stream of plain bytes. Its first bytes tell bz2 and gzip; several streams in one file are all read."""
    with fs.open_read(path) as stream:
        magic = stream.read(3)
        stream.seek(0)
        opener = bz2.open if magic == b"BZh" else gzip.open if magic[:2] == b"\x1f\x8b" else None
        with opener(stream) if opener else contextlib.nullcontext(stream) as plain:
            yield cast(IO[bytes], plain)


def expand(patterns: Sequence[str], *, option: str) -> list[str]:
    """The files that paths and globs name, sorted; raises InputError for a path or glob that names none."""
    files: list[str] = []
    for pattern in patterns:
        matches = fs.glob(pattern) if "*" in pattern else [pattern] if fs.exists(pattern) else []
        if not matches:
            raise InputError(f"no file at {pattern}: check the path given with {option}")
        files += matches
    return sorted(files)


# --- the dump ---------------------------------------------------------------------------------------------------------


def read_articles(path: str) -> Iterator[str]:
    """The wikitext of every article in a dump file, in order. Articles are pages of the main namespace that are no redirects."""
    try:
        with open_text(path) as stream:
            for _, element in ElementTree.iterparse(stream):
                if element.tag.rpartition("}")[2] == "page":
                    if (text := _article(element)) is not None:
                        yield text
                    element.clear()
    except (ElementTree.ParseError, EOFError, OSError) as error:
        raise InputError(f"{path} is no whole Wikipedia dump ({error}): download pages-articles again") from None


def _article(page: ElementTree.Element) -> str | None:
    fields = {element.tag.rpartition("}")[2]: element for element in page.iter()}
    if "redirect" in fields or fields["ns"].text != "0" or "text" not in fields:
        return None
    return fields["text"].text or ""


def article_words(path: str) -> Iterator[list[bytes]]:
    """The folded words of every article in a dump file; END stands where no bigram may reach across."""
    for article in read_articles(path):
        yield cut_words(join_texts(BREAK.split(strip_wikitext(article)))).split()


def count_words(path: str) -> Counter[bytes]:
    """How often each word occurs in a dump file."""
    counts: Counter[bytes] = Counter()
    for words in article_words(path):
        counts.update(words)
    del counts[END.encode()]
    return counts


# --- bigrams ----------------------------------------------------------------------------------------------------------

RUN_BIGRAMS = 1 << 24  # bigrams sorted at a time: 128 MB of them
BUCKETS = 64  # each is merged by itself: at 4 billion words some 500 MB


def count_bigrams(path: str, numbers: dict[bytes, int], scratch: str, run: str) -> int:
    """Counts the bigrams of the numbered words in a dump file, in sorted runs SCRATCH/BUCKET/RUN-...; returns the number of
    runs. A bigram is (number of the first word) << 32 | number of the second."""
    waiting: list[Ints] = []
    size = runs = 0
    for words in article_words(path):
        ids = np.fromiter((numbers.get(word, -1) for word in words), np.int64, len(words))
        pairs = (ids[:-1] << 32) | ids[1:]
        waiting.append(pairs[(ids[:-1] >= 0) & (ids[1:] >= 0)])
        size += len(waiting[-1])
        if size >= RUN_BIGRAMS:
            _write_run(waiting, scratch, f"{run}-{runs}")
            waiting, size, runs = [], 0, runs + 1
    if size:
        _write_run(waiting, scratch, f"{run}-{runs}")
        runs += 1
    return runs


def _write_run(waiting: list[Ints], scratch: str, name: str) -> None:
    keys, counts = np.unique(np.concatenate(waiting), return_counts=True)
    bucket_of = (keys >> 32) % BUCKETS
    for bucket in np.unique(bucket_of).tolist():
        mine = bucket_of == bucket
        rows = np.stack([keys[mine], counts[mine].astype(np.int64)])
        fs.write_bytes(fs.join(scratch, str(bucket), name), rows.tobytes())


def merge_bigrams(scratch: str) -> Iterator[tuple[Ints, Ints]]:
    """(bigrams, counts) of each bucket, summed over all runs."""
    for bucket in range(BUCKETS):
        folder = fs.join(scratch, str(bucket))
        files = [fs.read_bytes(fs.join(folder, name)) for name in fs.list_dir(folder)]
        if files:
            rows = np.concatenate([np.frombuffer(data, np.int64).reshape(2, -1) for data in files], axis=1)
            keys, place = np.unique(rows[0], return_inverse=True)
            yield keys, np.bincount(place, rows[1]).astype(np.int64)


def pointwise_information(pair: Ints, first: Ints, second: Ints, total: int) -> npt.NDArray[np.float64]:
    """Bits of pointwise mutual information, from counts: log2 of how much more often two words stand together than by chance."""
    return np.log2(pair) + math.log2(total) - np.log2(first) - np.log2(second)


def _pool(processes: int) -> Executor:
    if processes == 1:
        return ThreadPoolExecutor(1)  # no process to start
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))


def words_and_bigrams(
    files: Sequence[str],
    *,
    min_word_count: int,
    min_bigram_count: int,
    min_pmi: float,
    scratch: str,
    processes: int = 1,
) -> tuple[dict[str, float], dict[str, float]]:
    """(frequent words with their counts, bigrams of frequent words with their pointwise mutual information in bits). Every file
    is read twice, each time by one of the processes."""
    with _pool(processes) as pool:
        counts: Counter[bytes] = Counter()
        for counted in pool.map(count_words, files):
            counts.update(counted)
        frequent = sorted(word for word, count in counts.items() if count >= min_word_count)
        numbers = {word: number for number, word in enumerate(frequent)}
        tasks = [pool.submit(count_bigrams, path, numbers, scratch, str(run)) for run, path in enumerate(files)]
        for task in tasks:
            task.result()
    counts_of = np.array([counts[word] for word in frequent], np.int64)
    words = [word.decode() for word in frequent]
    bigrams: dict[str, float] = {}
    for keys, together in merge_bigrams(scratch):
        first, second = keys >> 32, keys & 0xFFFFFFFF
        information = pointwise_information(together, counts_of[first], counts_of[second], counts.total())
        for place in np.flatnonzero((together >= min_bigram_count) & (information >= min_pmi)).tolist():
            bigrams[f"{words[first[place]]} {words[second[place]]}"] = round(float(information[place]), 6)
    return dict(zip(words, counts_of.astype(float).tolist(), strict=True)), bigrams


# --- titles -----------------------------------------------------------------------------------------------------------

QUALIFIER = re.compile(r" \([^()]*\)$")  # "Mercury (planet)": no caption holds it


def viewed_titles(
    files: Iterable[str], *, projects: Sequence[str], min_hour_views: int, min_views: int
) -> dict[str, float]:
    """{title: views} of articles, from Wikimedia's hourly files (`project title views bytes`). An hour counts if it has
    `min_hour_views`; a title is kept if it has `min_views` in all. A qualifier in brackets is taken off the title."""
    wanted = tuple(f"{project} ".encode() for project in projects)
    views: defaultdict[bytes, int] = defaultdict(int)
    for path in files:
        with open_text(path) as stream:
            for line in stream:
                fields = line.split(b" ") if line.startswith(wanted) else []
                if len(fields) >= 3 and b":" not in fields[1] and fields[2].strip().isdigit():
                    count = int(fields[2])
                    views[fields[1]] += count if count >= min_hour_views else 0
    titles: defaultdict[str, float] = defaultdict(float)
    for raw, count in views.items():
        title = unquote(raw.decode("utf-8", "replace")).replace("_", " ").strip()
        titles[QUALIFIER.sub("", title)] += count
    return {title: seen for title, seen in titles.items() if seen >= min_views and title and "\ufffd" not in title}
