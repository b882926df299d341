"""Refusals of the operating system (disk full, no permission, ...) as a sentence that says what a person can do."""

from __future__ import annotations

import errno
import re

# What a person can do about each refusal; an error of any other number is a bug of ours.
REFUSALS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room there"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "give this user the right to it, or choose another place"
    ),
    **dict.fromkeys((errno.ENOTDIR, errno.ENAMETOOLONG), "choose another path"),
    **dict.fromkeys((errno.EISDIR, errno.EEXIST), "move it away, or choose another path"),
    errno.ENOENT: "put it back",
    errno.EIO: "look after the disk",
}
ERRNO = re.compile(r"\[Errno (\d+)\] ([^\n]*)")
# pyarrow puts words before it: "Error writing bytes to file. Detail: [errno 28] No space left".
WRAPPED = re.compile(r"^[^']*\[errno \d+\] ")


def refusal(error: BaseException, near: str = "") -> str | None:
    """A sentence: what the operating system refused, and what to do; None where the exception is no such refusal. The errno is
    looked for in the exception's text, since an engine keeps only the text of an error in a worker. `near` is the place to
    name where the text names none."""
    numbered = [(int(number), words) for number, words in ERRNO.findall(f"{error}")]
    known = [(number, words) for number, words in numbered if number in REFUSALS]
    if not known:
        return None
    number, words = known[-1]
    words = WRAPPED.sub("", words.split(" [while running")[0].strip())
    where = f" in {near}" if near and "'" not in words else ""
    return f"{words}{where}: {REFUSALS[number]}"
