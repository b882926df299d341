"""Pictures: what the header says (`probe`), and from fetched bytes to stored bytes with hashes (`process`)."""

from wit.images.config import ImageConfig
from wit.images.headers import probe
from wit.images.process import Blocklist, phash_of, process
from wit.images.results import Probe, Processed, Refused

__all__ = ["Blocklist", "ImageConfig", "Probe", "Processed", "Refused", "phash_of", "probe", "process"]
