"""Streams published shards as training batches: every sample once an epoch, in an order fixed by (seed, epoch).

The order is known before a byte is read: shards are permuted, consecutive shards form a window of about `shuffle_buffer` samples,
and the samples of a window are permuted. So a run resumes at any batch without reading those before it, and the stream does not
depend on the number of decoding threads or ranks.
"""

from __future__ import annotations

import io
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from trainer.tokenizer import tokenize
from wit.records import InputError, keyed_hash
from wit.shards import Sample, ShardInfo, iter_samples, list_shards
from wit.store import fs

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")


@dataclass(frozen=True)
class StreamConfig:
    """The settings of a stream. All decide what it yields, except `workers` and `cache_mb`, which only decide how fast."""

    batch_size: int  # samples, over all ranks
    image_size: int  # pixels, square
    context_length: int  # tokens
    seed: int
    shuffle_buffer: int  # samples
    shuffle_captions: bool = False
    workers: int = 2  # threads
    cache_mb: int = 0


IMAGE, METADATA = "image_corrupt", "metadata_corrupt"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a sample: its picture does not decode (IMAGE), so the batch leaves it out; or its KEY.json is no JSON object
    (METADATA), and it is trained on all the same."""

    shard: str  # file name
    key: str
    reason: str  # IMAGE or METADATA


@dataclass(frozen=True, slots=True)
class Example:
    """One decoded sample. `image` is `[height, width, 3]`, its shorter side the model's image size; None if it does not
    decode."""

    key: str
    image: Pixels | None
    tokens: npt.NDArray[np.int64]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's part of a batch, ready for the device."""

    images: Tensor  # uint8 [batch, 3, size, size]
    tokens: Tensor  # int64 [batch, context_length]
    valid: Tensor  # bool [batch]: False where the picture does not decode
    keys: tuple[str, ...]
    faults: tuple[Fault, ...]

    @property
    def corrupt(self) -> list[str]:
        """The keys of samples whose picture does not decode."""
        return [key for key, valid in zip(self.keys, self.valid.tolist(), strict=True) if not valid]


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one sample in the stream. `samples` will be its shard's samples; None if the example is in the cache."""

    shard: int
    row: int
    samples: Future[list[Sample]] | None


@lru_cache(maxsize=8)
def permutation(n: int, *, seed: int, purpose: str) -> npt.NDArray[np.int64]:
    """A permutation of `range(n)` that depends on (n, seed, purpose) only, on any machine and with any NumPy version."""
    with np.errstate(over="ignore"):
        x = np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(keyed_hash(seed, purpose, str(n)))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return np.argsort(x ^ (x >> np.uint64(31)), kind="stable")


def epoch_windows(counts: list[int], *, seed: int, epoch: int, shuffle_buffer: int) -> Iterator[list[int]]:
    """The numbers of the shards in this epoch's order, in windows of at least `shuffle_buffer` samples; the last may have
    fewer."""
    window: list[int] = []
    for shard in permutation(len(counts), seed=seed, purpose=f"shards:{epoch}").tolist():
        window.append(shard)
        if sum(counts[i] for i in window) >= shuffle_buffer:
            yield window
            window = []
    if window:
        yield window


def window_rows(window: list[int], counts: list[int], *, seed: int, epoch: int) -> list[tuple[int, int]]:
    """(shard, row) of every sample of a window, shuffled."""
    rows = [(shard, row) for shard in window for row in range(counts[shard])]
    order = permutation(len(rows), seed=seed, purpose=f"rows:{epoch}:{window[0]}")
    return [rows[i] for i in order.tolist()]


def decode(data: bytes, size: int) -> Pixels | None:
    """The picture on white, its shorter side resized to `size` (bicubic, as CLIP's); None if it does not decode."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return resize(flatten(image), size)
    except Exception:  # strangers' bytes: Pillow may raise anything, at the cost of this picture alone
        return None


def flatten(image: Image.Image) -> Image.Image:
    """The picture in RGB, transparent parts white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def resize(image: Image.Image, size: int) -> Pixels:
    """The picture with its shorter side at `size`, bicubic; the longer side is rounded down. That is torchvision's Resize, which
    the evaluations of CLIP and open_clip use."""
    short = min(image.size)
    shape = (int(size * image.width / short), int(size * image.height / short))
    return np.asarray(image.resize(shape, Image.Resampling.BICUBIC))


def crop(pixels: Pixels, size: int, *, at: tuple[float, float] = (0.5, 0.5)) -> Pixels:
    """A square of the picture, at the fraction `at` of the room on each axis: 0.5 is the centre, rounded as in torchvision's
    CenterCrop (halves to even)."""
    top, left = (round((extent - size) * fraction) for extent, fraction in zip(pixels.shape, at, strict=False))
    return pixels[top : top + size, left : left + size]


def fractions(seed: int, purpose: str, item: str) -> tuple[float, float]:
    """Two draws in [0, 1) that depend on (seed, purpose, item) only."""
    value = keyed_hash(seed, purpose, item)
    return (value >> 32) / 2**32, (value & 0xFFFFFFFF) / 2**32


def ordered(pool: ThreadPoolExecutor, work: Callable[[Any], T], items: Iterable[Any], *, ahead: int) -> Iterator[T]:
    """`map(work, items)` in the pool, in order, with `ahead` further items in work while one is waited for."""
    pending: deque[Future[T]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


@dataclass
class Stream:
    """The batches of a directory of shards, for one rank of several."""

    shards: list[ShardInfo]
    config: StreamConfig
    rank: int = 0
    ranks: int = 1
    _cache: dict[tuple[int, int], Example] = field(default_factory=dict)
    _cache_bytes: int = 0

    @classmethod
    def open(cls, directory: str, config: StreamConfig, *, rank: int = 0, ranks: int = 1) -> Stream:
        """The stream of a directory. Raises InputError where it has no shards, too few samples for one batch, or a missing
        shard."""
        if config.batch_size % ranks:
            raise InputError(f"a batch of {config.batch_size} does not divide over {ranks} ranks; change --batch-size")
        stream = cls(list_shards(directory), config, rank, ranks)
        check_present(directory, stream.shards)
        if not stream.batches_per_epoch:
            raise InputError(
                f"{directory} holds {stream.samples} samples, fewer than a batch of {config.batch_size}; "
                "build shards there first, or give a smaller --batch-size"
            )
        return stream

    @property
    def samples(self) -> int:
        """The samples of all shards, after removals."""
        return sum(shard.samples for shard in self.shards)

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches in an epoch, over all ranks."""
        return self.samples // self.config.batch_size

    @property
    def left_out_per_epoch(self) -> int:
        """How many samples of an epoch fill no batch; each epoch leaves out other samples."""
        return self.samples % self.config.batch_size

    def batches(self, *, first: int = 0, end: int) -> Iterator[Batch]:
        """This rank's part of the batches [first, end), counted from the start of epoch 0."""
        with ThreadPoolExecutor(max(1, self.config.workers)) as pool:
            try:
                parts = itertools.islice(self._parts(first, pool), end - first)
                yield from ordered(pool, self._batch, parts, ahead=self.config.workers + 1)
            finally:
                pool.shutdown(cancel_futures=True)

    def empty_batch(self) -> Batch:
        """This rank's part of a batch with black, invalid samples only."""
        blank = Example("", None, np.zeros(self.config.context_length, dtype=np.int64), ())
        return collate([blank] * (self.config.batch_size // self.ranks), self.config, 0)

    def _parts(self, first: int, pool: ThreadPoolExecutor) -> Iterator[tuple[int, list[Place]]]:
        """(epoch, places of this rank's samples), batch by batch, for ever."""
        size, share = self.config.batch_size, self.config.batch_size // self.ranks
        for epoch in itertools.count(first // self.batches_per_epoch):
            skip = first % self.batches_per_epoch if epoch == first // self.batches_per_epoch else 0
            places = self._places(epoch, skip * size, pool)
            for _ in range(skip, self.batches_per_epoch):
                batch = list(itertools.islice(places, size))
                yield epoch, batch[self.rank * share : (self.rank + 1) * share]

    def _places(self, epoch: int, skip: int, pool: ThreadPoolExecutor) -> Iterator[Place]:
        """The epoch's samples in order, from the `skip`-th on. A shard is read when the stream reaches its window."""
        counts = [shard.samples for shard in self.shards]
        seed, buffer = self.config.seed, self.config.shuffle_buffer
        for window in epoch_windows(counts, seed=seed, epoch=epoch, shuffle_buffer=buffer):
            held = sum(counts[shard] for shard in window)
            if skip >= held:
                skip -= held
                continue
            reads = {shard: self._read(shard, pool) for shard in window}
            for shard, row in window_rows(window, counts, seed=seed, epoch=epoch)[skip:]:
                yield Place(shard, row, reads[shard])
            skip = 0

    def _read(self, shard: int, pool: ThreadPoolExecutor) -> Future[list[Sample]] | None:
        cached = all((shard, row) in self._cache for row in range(self.shards[shard].samples))
        return None if cached else pool.submit(read_shard, self.shards[shard])

    def _batch(self, part: tuple[int, list[Place]]) -> Batch:
        epoch, places = part
        return collate([self._example(place) for place in places], self.config, epoch)

    def _example(self, place: Place) -> Example:
        cached = self._cache.get((place.shard, place.row))
        if cached is not None:
            return cached
        assert place.samples is not None
        samples = place.samples.result()
        sample, captioned = samples[place.row], samples[self._row_of_caption(place)]
        tokens = tokenize(captioned.caption, context_length=self.config.context_length)
        image = decode(sample.image_bytes, self.config.image_size)
        reasons = [IMAGE] * (image is None) + [METADATA] * (not sample.readable)
        shard = fs.name_of(self.shards[place.shard].path)
        example = Example(sample.key, image, tokens, tuple(Fault(shard, sample.key, reason) for reason in reasons))
        self._keep(place, example)
        return example

    def _row_of_caption(self, place: Place) -> int:
        """The row whose caption goes with this row's picture: its own, or, with `shuffle_captions`, another of the shard."""
        if not self.config.shuffle_captions:
            return place.row
        purpose = f"captions:{place.shard}"
        return int(permutation(self.shards[place.shard].samples, seed=self.config.seed, purpose=purpose)[place.row])

    def _keep(self, place: Place, example: Example) -> None:
        """Caches an example if there is room. Nothing is ever evicted: the access is cyclic, so that would only lose hits."""
        size = 500 + (0 if example.image is None else example.image.nbytes) + example.tokens.nbytes
        if self._cache_bytes + size <= self.config.cache_mb * 1_000_000:
            self._cache[(place.shard, place.row)] = example
            self._cache_bytes += size


def check_present(directory: str, shards: list[ShardInfo]) -> None:
    """Raises InputError that names missing and empty shards, before the first step rather than when their turn comes."""
    listed = fs.list_sizes(directory)

    def is_there(shard: ShardInfo) -> bool:
        name = shard.path.removeprefix(fs.join(directory, ""))
        if listed and "/" not in name:
            return bool(listed.get(name))
        return fs.exists(shard.path)  # for a store that lists nothing

    with ThreadPoolExecutor(16) as pool:
        missing = [shard.path for shard, there in zip(shards, pool.map(is_there, shards), strict=True) if not there]
    if missing:
        more = f" and {len(missing) - 3:,} more" if len(missing) > 3 else ""
        raise InputError(
            f"of the {len(shards):,} shards that sizes.json names {len(missing):,} are missing or empty: "
            f"{', '.join(missing[:3])}{more}; fetch or publish them again, or take them out of sizes.json"
        )


def unlisted(directory: str, shards: list[ShardInfo]) -> list[str]:
    """The names of tars beside the shards that are not in sizes.json, and so are not streamed."""
    known = {fs.name_of(shard.path) for shard in shards}
    return [name for name in fs.list_dir(directory) if name.endswith((".tar", ".tar.gz")) and name not in known]


def read_shard(shard: ShardInfo) -> list[Sample]:
    """All samples of a shard; raises InputError if they are not as many as announced."""
    samples = list(iter_samples(shard.path))
    if len(samples) != shard.samples:
        raise InputError(
            f"{shard.path} holds {len(samples)} samples where sizes.json says {shard.samples}; "
            "run python -m pipelines.verify on the dataset"
        )
    return samples


def collate(examples: list[Example], config: StreamConfig, epoch: int) -> Batch:
    """One batch. Each picture is cropped at a place drawn from (seed, epoch, key); a corrupt one stays black and invalid."""
    size = config.image_size
    images = np.zeros((len(examples), size, size, 3), dtype=np.uint8)
    for image, example in zip(images, examples, strict=True):
        if example.image is not None:
            image[:] = crop(example.image, size, at=fractions(config.seed, f"crop:{epoch}", example.key))
    return Batch(
        images=torch.from_numpy(images).permute(0, 3, 1, 2),
        tokens=torch.from_numpy(np.stack([example.tokens for example in examples])),
        valid=torch.tensor([example.image is not None for example in examples]),
        keys=tuple(example.key for example in examples),
        faults=tuple(fault for example in examples for fault in example.faults),
    )
