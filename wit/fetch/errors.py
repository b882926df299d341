"""What stops a download for good."""

from __future__ import annotations


class OutageError(RuntimeError):
    """This machine's network seems to be away: nothing was published as lost. Start the build again when it is back."""


class EngineError(RuntimeError):
    """A child process of the fetch engine dies again and again: a bug or a broken installation, not the web."""
