"""A small web in the package: pages, pictures, its crawl, its server, and the fate that each img tag must meet."""

from wit.demo.crawl import write_warc, write_wat
from wit.demo.fates import mismatches, truth
from wit.demo.server import Web, serve

__all__ = ["Web", "mismatches", "serve", "truth", "write_warc", "write_wat"]
