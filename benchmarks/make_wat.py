"""A WAT file of any size for benchmarks: `python benchmarks/make_wat.py OUT.warc.wat.gz [--pages N] [--seed N]`.

The recipe is what was counted on real pages: three records a page (request, response, metadata), each its own gzip
member; about 286 links and 17.8 images a page (lognormal(2.35, 1.05), at most 150), of which about 10.6 bear an alt
text; sources absolute, protocol-relative, root-relative, relative and inline; a `<base>` on one page in fifty. Texts are
drawn by Zipf's law from common English words and invented ones. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import math
from random import Random
from typing import Any

COMMON_TEXT = """the of and a to in is for on with by at from new red blue green black white small large old young big little
photo picture image view close up day night summer winter spring autumn home house garden kitchen room door window wall
floor table chair bed lamp sofa desk shelf book cover page magazine news sport football basketball tennis golf team player
game match world city street road bridge river lake sea beach island mountain forest park tree flower rose leaf grass sky
cloud sun moon star rain snow water fire stone wood metal glass paper plastic leather cotton wool silk dress shirt jacket
coat shoe boot hat bag watch ring necklace gold silver diamond women men girl boy baby child family mother father friend
people group wedding party birthday christmas halloween easter food pizza burger salad soup cake bread cheese chicken beef
fish rice pasta fruit apple orange banana lemon strawberry chocolate coffee tea wine beer juice milk recipe dinner lunch
breakfast restaurant hotel travel tour guide map flight airport train station bus car truck motorcycle bicycle boat ship
engine wheel tire battery light camera phone laptop computer keyboard mouse screen monitor tablet printer cable charger
speaker headphones music guitar piano drum concert band singer album song movie film poster actor actress show series
television cartoon art painting drawing sketch portrait landscape abstract modern vintage classic design logo icon vector
illustration background pattern texture banner template business office meeting company market shop store sale price
product brand quality best free top first last next open review test report data chart graph school student teacher
university class lesson science history language english french german spanish italian chinese japanese indian american
british european african doctor hospital health medical yoga fitness gym workout run swimming dog cat horse cow bird
elephant lion tiger bear wolf fox rabbit snake turtle butterfly bee spider toy doll puzzle lego robot space rocket planet
earth north south east west king queen prince castle church temple museum tower building apartment construction tool
machine power energy solar wind oil gas steel cloth fabric curtain carpet pillow blanket bathroom shower mirror towel"""
COMMON = COMMON_TEXT.split()

SYLLABLE_TEXT = (
    "ka lo mi ra ten vor sha bel dru fin gor hal ix jen kur lam mon ner ost pel qua rim sol tor und vel wex yor zan"
)
SYLLABLES = SYLLABLE_TEXT.split()
STAMPS = ["logo", "Image", "avatar", "placeholder", "icon", "Facebook", "Twitter", "banner", "loading...", "photo"]
EXTENSIONS = ["jpg"] * 7 + ["png"] * 2 + ["webp", "gif"]
LINK_PATHS = ["A@/href"] * 30 + ["LINK@/href", "SCRIPT@/src", "FORM@/action", "IFRAME@/src"]
HTTP_HEADERS = {"Server": "nginx", "Content-Type": "text/html; charset=utf-8", "Cache-Control": "private, max-age=0"}


class Writer:
    """The draws of one file. One generator, used in one order, so that the seed fixes every byte."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.invented = ["".join(self.random.choices(SYLLABLES, k=self.random.randint(2, 4))) for _ in range(20_000)]
        self.serial = 0

    def word(self) -> str:
        """A common word three times in four, by Zipf's law; else an invented one, flatter."""
        if self.random.random() < 0.75:
            return COMMON[int(len(COMMON) ** self.random.random()) - 1]
        return self.invented[int(len(self.invented) * self.random.random() ** 2)]

    def words(self, low: int, high: int, glue: str = " ") -> str:
        return glue.join(self.word() for _ in range(self.random.randint(low, high)))

    def hex(self, length: int) -> str:
        return f"{self.random.getrandbits(4 * length):0{length}x}"

    def uuid(self) -> str:
        digits = self.hex(32)
        return f"<urn:uuid:{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}>"

    def digest(self) -> str:
        return "sha1:" + hashlib.sha1(self.hex(8).encode()).hexdigest().upper()[:32]

    def caption(self) -> str:
        kind = self.random.random()
        if kind < 0.17:
            return self.random.choice(STAMPS)
        if kind < 0.25:
            return self.words(20, 60)
        if kind < 0.45:
            return f"{self.words(1, 2, '_')}-{self.random.randint(1, 9999)}.{self.random.choice(EXTENSIONS)}"
        text = self.words(3, 14).capitalize()
        return text + self.random.choice(
            ["", "", "", ".", " - " + self.word(), " “" + self.word() + "” é", ' "' + self.word() + '"']
        )

    def src(self, host: str) -> str:
        name = f"{self.words(1, 4, '-')}-{self.random.randint(1, 99999)}.{self.random.choice(EXTENSIONS)}"
        folder = f"/{self.word()}/{self.random.randint(2005, 2026)}/{self.random.randint(1, 12):02d}/"
        kind = self.random.random()
        if kind < 0.62:
            return f"https://{self.random.choice([host, 'cdn.' + host, 'img.' + self.word() + '.com'])}{folder}{name}"
        if kind < 0.82:
            return folder + name
        if kind < 0.90:
            return f"//cdn.{host}{folder}{name}?w={self.random.randint(1, 20) * 100}"
        return f"images/{name}" if kind < 0.97 else "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP"

    def image(self, host: str) -> dict[str, str]:
        link = {"path": "IMG@/src", "url": self.src(host)}
        kind = self.random.random()
        if kind < 0.75:
            link["alt"] = self.caption() if kind < 0.60 else ""
        if self.random.random() < 0.1:
            link["title"] = self.words(1, 4)
        return link

    def link(self, host: str) -> dict[str, str]:
        path = self.random.choice(LINK_PATHS)
        target = f"/{self.words(1, 2, '/')}/{self.words(1, 5, '-')}"
        url = target if self.random.random() < 0.5 else f"https://www.{host}{target}.html"
        link = {"path": path, "url": url}
        return link | {"text": self.words(1, 6)} if path == "A@/href" and self.random.random() < 0.8 else link

    def links(self, host: str) -> list[dict[str, str]]:
        images = min(150, int(self.random.lognormvariate(2.35, 1.05)))
        others = int(self.random.lognormvariate(math.log(286) - 0.32, 0.8))
        links = [self.link(host) for _ in range(others)] + [self.image(host) for _ in range(images)]
        self.random.shuffle(links)
        return links

    def record(self, url: str, payload: dict[str, Any], kind: str, filename: str) -> bytes:
        """One WAT record: the WARC header, and the envelope that describes the record of the WARC file."""
        self.serial += 1
        record_id, length = self.uuid(), self.random.randint(300, 90_000)
        envelope = {
            "Container": {
                "Filename": filename,
                "Compressed": True,
                "Offset": str(self.serial * 21_003),
                "Gzip-Metadata": {
                    "Inflated-Length": str(length),
                    "Footer-Length": "8",
                    "Inflated-CRC": str(self.random.getrandbits(31)),
                    "Deflate-Length": str(length // 4),
                    "Header-Length": "10",
                },
            },
            "Envelope": {
                "Format": "WARC",
                "WARC-Header-Length": "404",
                "Block-Digest": self.digest(),
                "Actual-Content-Length": str(length),
                "WARC-Header-Metadata": {
                    "WARC-Type": kind,
                    "WARC-Date": "2026-10-05T12:00:00Z",
                    "WARC-Record-ID": record_id,
                    "Content-Length": str(length),
                    "Content-Type": f"application/http; msgtype={kind}",
                    "WARC-Protocol": ["h2", "tls/1.3"],
                    "WARC-IP-Address": f"192.0.2.{self.random.randint(1, 254)}",
                    "WARC-Target-URI": url,
                },
                "Payload-Metadata": payload,
            },
        }
        return warc_record(url, self.uuid(), record_id, compact(envelope))

    def page(self, filename: str) -> list[bytes]:
        host = f"{self.word()}{self.word()}.{self.random.choice(['com', 'org', 'net', 'de', 'co.uk'])}".lower()
        url = f"https://www.{host}/{self.words(1, 3, '-')}/{self.random.randint(1, 99999)}"
        head: dict[str, Any] = {
            "Metas": [
                {"name": "description", "content": self.words(8, 30)},
                {"name": "viewport", "content": "width=device-width"},
            ],
            "Title": self.words(3, 10),
            "Scripts": [
                {"path": "SCRIPT@/src", "url": f"/static/{self.hex(8)}.js", "type": "text/javascript"} for _ in range(6)
            ],
        }
        if self.random.random() < 0.02:
            head["Base"] = f"https://www.{host}/assets/"
        html = {"Head": head, "Links": self.links(host)}
        cookies = [f"session={self.hex(16)}; path=/", f"id={self.hex(8)}"]
        headers = HTTP_HEADERS | {"Set-Cookie": cookies if self.random.random() < 0.3 else cookies[0]}
        request = {
            "Headers": {"User-Agent": "CCBot/2.0", "Host": host},
            "Request-Message": {"Method": "GET", "Path": "/"},
        }
        response = {"Headers": headers, "Response-Message": {"Status": "200"}, "HTML-Metadata": html}
        about = {"Metadata-Records": [{"Name": "fetchTimeMs", "Value": str(self.random.randint(20, 900))}]}
        slop = {"Trailing-Slop-Length": "4"}
        return [
            self.record(url, slop | {"HTTP-Request-Metadata": request}, "request", filename),
            self.record(url, slop | {"HTTP-Response-Metadata": response}, "response", filename),
            self.record(url, slop | {"WARC-Metadata-Metadata": about}, "metadata", filename),
        ]


def compact(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def warc_record(url: str, record_id: str, refers_to: str, body: bytes) -> bytes:
    header = (
        f"WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-10-05T12:00:00Z\r\n"
        f"WARC-Record-ID: {record_id}\r\nWARC-Refers-To: {refers_to}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return header.encode() + body + b"\r\n\r\n"


def warcinfo() -> bytes:
    body = b"Software-Info: a synthetic WAT\r\nformat: WARC File Format 1.0\r\n"
    head = f"WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Type: application/warc-fields\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body + b"\r\n\r\n"


def write_wat(path: str, *, pages: int = 4_000, seed: int = 1) -> int:
    """Writes the file; returns the raw bytes in it. About 35 kB a page, a quarter of that compressed."""
    writer, raw = Writer(seed), 0
    with open(path, "wb") as out:
        records = [warcinfo()]
        for _ in range(pages):
            for record in records:
                raw += len(record)
                out.write(gzip.compress(record, 6, mtime=0))
            records = writer.page("CC-MAIN-20261005120000-20261005150000-00000.warc.gz")
        for record in records:
            raw += len(record)
            out.write(gzip.compress(record, 6, mtime=0))
    return raw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output")
    parser.add_argument("--pages", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    raw = write_wat(options.output, pages=options.pages, seed=options.seed)
    print(f"{options.output}: {options.pages} pages, {raw:,} bytes raw")


if __name__ == "__main__":
    main()
