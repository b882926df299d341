"""A small web that lives in the package: pages, pictures, a crawl of it, a server, and the fate each img tag must meet."""

from wit.demo.crawl import write_warc, write_wat
from wit.demo.fates import mismatches, truth
from wit.demo.server import Web, serve

__all__ = ["Web", "mismatches", "serve", "truth", "write_warc", "write_wat"]
