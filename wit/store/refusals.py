"""What an operating system refuses, in a sentence that says what a person can do."""

from __future__ import annotations

import errno
import re

# What an operating system refuses and a person can mend; anything else that it says is a bug of ours.
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
# As pyarrow: "Error writing bytes to file. Detail: [errno 28] No space left".
WRAPPED = re.compile(r"^[^']*\[errno \d+\] ")


def refusal(error: BaseException, near: str = "") -> str | None:
    """What the operating system refused and what to do, in a sentence, wherever that stands in an exception: of one that was
    raised in a worker an engine keeps the words alone. `near` is the place to name where the words name none. None where it is
    no such refusal."""
    numbered = [(int(number), words) for number, words in ERRNO.findall(f"{error}")]
    known = [(number, words) for number, words in numbered if number in REFUSALS]
    if not known:
        return None
    number, words = known[-1]
    words = WRAPPED.sub("", words.split(" [while running")[0].strip())
    where = f" in {near}" if near and "'" not in words else ""
    return f"{words}{where}: {REFUSALS[number]}"
