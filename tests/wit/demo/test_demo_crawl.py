"""The WAT and WARC files of the demonstration web, read by the public readers of those formats."""

import gzip
import json
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator as FastIterator
from fastwarc.warc import WarcRecordType
from selectolax.lexbor import LexborHTMLParser
from warcio.archiveiterator import ArchiveIterator

from wit import demo
from wit.candidates.config import CandidatesConfig
from wit.candidates.extract import extract_group
from wit.demo.tables import KEPT, load
from wit.querylist import load_queries
from wit.records import Reason
from wit.sources import SourceFile


@pytest.fixture(scope="module")
def wat(tmp_path_factory):
    return demo.write_wat(str(tmp_path_factory.mktemp("wat")))


@pytest.fixture(scope="module")
def warc(tmp_path_factory):
    return demo.write_warc(str(tmp_path_factory.mktemp("warc")))


def tags_by_page():
    found: dict[str, list[tuple[str, str | None]]] = {url: [] for url in load("pages")["page_url"].to_pylist()}
    for row in demo.truth().to_pylist():
        assert row["index"] == len(found[row["page_url"]])
        found[row["page_url"]].append((row["src"], row["alt"]))
    return found


def test_wat_records_list_exactly_the_img_tags_of_the_truth_table(wat):
    found = {}
    for path in wat:
        with open(path, "rb") as stream:
            for record in FastIterator(stream, record_types=WarcRecordType.metadata):
                envelope = json.loads(record.reader.read())["Envelope"]
                html = envelope["Payload-Metadata"].get("HTTP-Response-Metadata", {}).get("HTML-Metadata")
                if html is not None:
                    assert envelope["WARC-Header-Metadata"]["WARC-Target-URI"] == record.headers["WARC-Target-URI"]
                    links = [link for link in html["Links"] if link["path"] == "IMG@/src"]
                    found[record.headers["WARC-Target-URI"]] = [(link["url"], link.get("alt")) for link in links]
    assert found == tags_by_page()


def test_warc_pages_hold_exactly_the_img_tags_of_the_truth_table(warc):
    found = {}
    for path in warc:
        with open(path, "rb") as stream:
            for record in ArchiveIterator(stream):
                if record.rec_type == "response":
                    tree = LexborHTMLParser(record.content_stream().read().decode())
                    images = [(img.attributes.get("src") or "", attribute(img, "alt")) for img in tree.css("img")]
                    found[record.rec_headers.get_header("WARC-Target-URI")] = images
    assert found == tags_by_page()


def attribute(node, name):
    return (node.attributes[name] or "") if name in node.attributes else None


def test_digests_in_the_warc_are_right(warc):
    with open(warc[0], "rb") as stream:
        for record in ArchiveIterator(stream, check_digests=True):
            record.content_stream().read()
            assert record.digest_checker.passed in (True, None), record.digest_checker.problems


def test_offsets_in_the_wat_lead_to_the_records_of_the_warc(wat, warc):
    data = Path(warc[1]).read_bytes()
    with open(wat[1], "rb") as stream:
        records = [
            json.loads(record.reader.read()) for record in FastIterator(stream, record_types=WarcRecordType.metadata)
        ]
    for record in records[:: len(records) // 50]:
        start, size = int(record["Container"]["Offset"]), int(record["Container"]["Gzip-Metadata"]["Deflate-Length"])
        plain = gzip.decompress(data[start : start + size])
        assert record["Envelope"]["WARC-Header-Metadata"]["WARC-Record-ID"].encode() in plain


def test_a_repeated_header_is_a_list_and_others_are_strings(wat):
    kinds = set()
    with open(wat[0], "rb") as stream:
        for record in FastIterator(stream, record_types=WarcRecordType.metadata):
            payload = json.loads(record.reader.read())["Envelope"]["Payload-Metadata"]
            kinds |= {type(value) for value in payload.get("HTTP-Response-Metadata", {}).get("Headers", {}).values()}
    assert kinds == {str, list}


def test_json_is_compact_with_the_path_first_as_in_real_wats(wat):
    with open(wat[0], "rb") as stream:
        text = b"".join(record.reader.read() for record in FastIterator(stream, record_types=WarcRecordType.metadata))
    assert text.count(b'"IMG@/src"') == text.count(b'{"path":"IMG@/src","url":"') > 1_000


def test_crawl_files_are_the_same_bytes_every_time(wat, warc, tmp_path):
    again = [*demo.write_wat(str(tmp_path)), *demo.write_warc(str(tmp_path))]
    for first, second in zip([*wat, *warc], again, strict=True):
        assert Path(first).read_bytes() == Path(second).read_bytes()


@pytest.mark.parametrize("kind", ["wat", "warc"])
def test_candidates_meet_the_truth_table(kind, wat, warc):
    """With its default rules and the shipped query list, the first stage drops what the table says, and nothing else."""
    files = [SourceFile(kind, path) for path in (wat if kind == "wat" else warc)]
    group = extract_group(files, queries=load_queries("queries/500k.txt"), config=CandidatesConfig(), seed=1)
    fates = {(row["page_url"], row["source_index"]): KEPT for row in group.table.to_pylist()}
    urls = {(row["page_url"], row["source_index"]): row["canonical_url"] for row in group.table.to_pylist()}
    fates |= {(row["page_url"], row["source_index"]): row["reason"] for row in group.dropped.to_pylist()}
    assert len(fates) == len(group.table) + len(group.dropped) == len(demo.truth())
    wrong = []
    for row in demo.truth().to_pylist():
        tag = (row["page_url"], row["index"])
        later = row["fates"][0] == KEPT or Reason[row["fates"][0].upper()].stage != "candidates"
        allowed = [*row["fates"], KEPT] if later else row["fates"]
        if fates[tag] not in allowed or urls.get(tag, row["url"]) != row["url"]:
            wrong.append((tag, fates[tag], allowed, urls.get(tag), row["alt"]))
    assert wrong == []
