"""Lays the pictures out as a web: pages, img tags with the fate each must meet, and how every URL answers.

The result depends only on pictures and names: the same input gives the same tables, row for row.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import pyarrow as pa

from wit.demo.making import wording
from wit.demo.making.drawing import slug
from wit.demo.making.noise import WITHOUT_ROBOTS, caption_noise, trouble_items, url_noise
from wit.demo.tables import KEPT, KEPT_OUT, PAGES, RESOURCES, SEED, TAGS, pick
from wit.hashing import keyed_hash
from wit.reasons import Reason
from wit.urls import absolute_url, canonical_url

CRAWL_FILES = 4
# Host of pages -> the host of most of their pictures.
CONTENT = {
    "pictures.example": "cdn.pictures.example",
    "shop.example": "img.shop.example",
    "blog.example": "static.blog.example",
    "gallery.example": "gallery.example",
    "kids.example": "assets.example",
    "cards.example": "assets.example",
    "recipes.example": "recipes.example",
    "travel.example": "media.travel.example",
    "museum.example": "museum.example",
    "stickers.example": "assets.example",
    "wiki.example": "upload.wiki.example",
    "news.example": "news.example",
}
PAGE_HOSTS = tuple(CONTENT)
HOSTS = tuple(sorted({*CONTENT, *CONTENT.values()}))
FOLDERS = ("img", "media/2019", "wp-content/uploads/2021/07", "static/pictures", "i")
LOGO = "welcome to the front page of {host}"
FOREIGN_PER_LANGUAGE = 110
REPEATED_PAIRS = 260  # the same URL with the same caption on another page
SECOND_CAPTIONS = 220  # the same URL with another English caption
COPIES = 140  # the same bytes at a second URL
HOT_CAPTIONS = 20  # captions of one URL: more than the 16 that a build keeps


@dataclass(frozen=True, slots=True)
class Item:
    """One img tag before it is put on a page. It shows `url`, or `picture` at a URL yet to be chosen, or has the raw `src`."""

    alt: str | None
    picture: str | None = None
    url: str | None = None
    src: str | None = None
    fate: str = KEPT  # if no other tag were like it
    language: str = "en"
    page_host: str | None = None

    @property
    def name(self) -> str:
        return "\n".join(str(part) for part in (self.alt, self.picture, self.url, self.src))


@dataclass(slots=True)
class Web:
    """The tables while they grow."""

    pages: list[dict[str, Any]] = field(default_factory=list)
    tags: list[dict[str, Any]] = field(default_factory=list)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)  # picture -> its first URL

    def answer(self, url: str, kind: str, **values: Any) -> str:
        if url in self.resources:
            raise ValueError(f"two resources at {url}")
        self.resources[url] = {**dict.fromkeys(RESOURCES.names), "url": url, "kind": kind, **values}
        return url


def build_web(pictures: pa.Table, translations: dict[str, dict[str, str]]) -> tuple[pa.Table, pa.Table, pa.Table]:
    """(pages, tags, resources) of the demonstration web. `translations`: language -> subject -> CLDR name."""
    rows = [row for row in pictures.drop_columns(["data"]).to_pylist() if row["style"] != KEPT_OUT]
    shown = [row for row in rows if row["original"] is None and row["role"] is None]
    special = {row["picture"]: row for row in rows if row["role"]}
    web = Web()
    place(web, first_showings(shown))
    place(web, later_showings(web, shown, [row for row in rows if row["original"] and not row["role"]]))
    place(web, foreign_showings(web, shown, translations))
    place(web, [as_item(*noise) for noise in caption_noise(sorted(web.urls.values()))])
    place(web, [as_item(*noise) for noise in url_noise()])
    place(web, list(troubles(web, special)))
    add_page_furniture(web, special)
    add_robots(web)
    settle_fates(web, {row["picture"]: row["original"] or row["picture"] for row in rows})
    return (
        pa.Table.from_pylist(web.pages, PAGES),
        pa.Table.from_pylist(web.tags, TAGS),
        pa.Table.from_pylist([web.resources[url] for url in sorted(web.resources)], RESOURCES),
    )


def as_item(alt: str | None, fate: str, src: str | None, url: str | None) -> Item:
    return Item(alt, fate=fate, src=src, url=url)


def first_showings(shown: Sequence[dict[str, Any]]) -> list[Item]:
    """Every picture once, with an English caption."""
    return [Item(row["title"] or wording.english(row["subject"], row["picture"]), row["picture"]) for row in shown]


def some(purpose: str, rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: keyed_hash(SEED, purpose, row["picture"]))[:count]


def later_showings(web: Web, shown: Sequence[dict[str, Any]], variants: Sequence[dict[str, Any]]) -> list[Item]:
    """The pictures again, as on the real web: repeated pairs, further captions, copies at other URLs, other encodings."""
    named = [row for row in shown if row["title"] is None]
    alts = {tag["url"]: tag["alt"] for tag in web.tags}
    items = [
        Item(alts[web.urls[row["picture"]]], url=web.urls[row["picture"]])
        for row in some("repeated pair", shown, REPEATED_PAIRS)
    ]
    for row in some("second caption", named, SECOND_CAPTIONS):
        alt = wording.english(row["subject"], row["picture"], wording.OTHER_ENGLISH)
        items.append(Item(alt, url=web.urls[row["picture"]]))
    for row in some("copy", named, COPIES):
        url = web.answer(copy_url(web.urls[row["picture"]]), "picture", picture=row["picture"])
        items.append(Item(wording.english(row["subject"], f"copy {url}"), url=url))
    for row in variants:
        items.append(Item(wording.english(row["subject"], row["picture"]), row["picture"]))
    hot = some("hot", named, 1)[0]
    every = (*wording.ENGLISH, *wording.OTHER_ENGLISH)[:HOT_CAPTIONS]
    captions = {template.format(hot["subject"], a=wording.with_article(hot["subject"])) for template in every}
    return [
        *items,
        *(Item(alt, url=web.urls[hot["picture"]]) for alt in sorted(captions - {alts[web.urls[hot["picture"]]]})),
    ]


def copy_url(url: str) -> str:
    """Another address for the same bytes: a size in the query, a mirror, a folder of copies."""
    parts = urlsplit(url)
    match pick("copy url", url, 3):
        case 0:
            return f"{url}?size=full&v=2"
        case 1:
            host = next(h for h in HOSTS if h != parts.netloc and pick("mirror", url + h, 4) == 0 or h == HOSTS[-1])
            return f"http://{host}/mirror/{parts.netloc}{parts.path}"
        case _:
            return f"http://{parts.netloc}/copies{parts.path}"


def foreign_showings(web: Web, shown: Sequence[dict[str, Any]], translations: dict[str, dict[str, str]]) -> list[Item]:
    """Pictures captioned in other languages, on pages of their own."""
    items = []
    for language in sorted(wording.FOREIGN):
        names = translations[language]
        rows = [row for row in shown if row["subject"] in names]
        for row in some(f"foreign {language}", rows, FOREIGN_PER_LANGUAGE):
            alt = wording.foreign(language, names[row["subject"]])
            url = web.urls[row["picture"]]
            items.append(Item(alt, url=url, fate=Reason.LANGUAGE, language=language, page_host="wiki.example"))
    return items


def troubles(web: Web, special: dict[str, dict[str, Any]]) -> Iterator[Item]:
    """Tags whose fetch goes wrong: `noise.trouble_items` decides how, and their URLs are registered here."""
    for trouble in trouble_items(special, HOSTS):
        for url, kind, values in trouble.resources:
            web.answer(url, kind, **values)
        yield Item(trouble.alt, url=trouble.url, fate=trouble.fate)


# --- pages -------------------------------------------------------------------------------------------------------------


def place(web: Web, items: Iterable[Item]) -> None:
    """Puts the items on new pages, 4 to 8 each, one language a page."""
    by_language = defaultdict(list)
    for item in sorted(items, key=lambda item: (keyed_hash(SEED, "place", item.name), item.name)):
        by_language[item.language, item.page_host].append(item)
    for (language, host), group in sorted(by_language.items(), key=str):
        while group:
            count = 4 + pick("page size", f"{len(web.pages)}", 5)
            add_page(
                web, group[:count], language, host or PAGE_HOSTS[pick("host", str(len(web.pages)), len(PAGE_HOSTS))]
            )
            group = group[count:]


def add_page(web: Web, items: Sequence[Item], language: str, host: str) -> None:
    number = len(web.pages)
    section = ("drawings", "posts", "items", "a/b/album", "archive")[pick("section", str(number), 5)]
    page_url = f"http://{host}/{section}/{number}.html" + ("?view=grid" if pick("query", str(number), 9) == 0 else "")
    base = page_base(host, number)
    web.pages.append(
        {
            "page_url": page_url,
            "title": f"{section.rpartition('/')[2].capitalize()} {number} - {host.partition('.')[0]}",
            "base": base,
            "language": language,
            "crawl_file": number % CRAWL_FILES,
        }
    )
    for item in items:
        url = item.url or (item.picture and picture_url(web, item.picture, host))
        src = item.src if item.src is not None else written(url or "", page_url, base)
        add_tag(web, page_url, src, item.alt, url, item.fate)


def add_tag(web: Web, page_url: str, src: str, alt: str | None, url: str | None, fate: str) -> None:
    index = 0
    if web.tags and web.tags[-1]["page_url"] == page_url:
        index = web.tags[-1]["index"] + 1
    tag = {"page_url": page_url, "index": index, "src": src, "alt": alt, "url": url, "fates": [fate], "cluster": None}
    web.tags.append(tag)


def page_base(host: str, number: int) -> str | None:
    """One page in eight has a <base>, absolute or relative."""
    bases = (f"http://{CONTENT[host]}/", f"//{CONTENT[host]}/img/", "/media/", "../")
    return bases[pick("base", str(number), 4)] if pick("has base", str(number), 8) == 0 else None


def picture_url(web: Web, picture: str, host: str) -> str:
    """A new URL for the picture, on the page's own host or the one of its pictures; a few paths have spaces and accents."""
    style, _, name = picture.partition("/")
    subject, kind = name.rsplit(".", 1)
    at = host if pick("own host", picture, 3) == 0 else CONTENT[host]
    words = slug(subject) or f"picture-{pick('unnamed', picture, 10**9)}"
    folder = FOLDERS[pick("folder", picture, len(FOLDERS))]
    match pick("odd name", picture, 40):
        case 0:
            words = words.replace("-", " ").capitalize()
        case 1:
            folder += "/schöne bilder"
    url = f"http://{at}/{quote(f'{folder}/{style}/{words}.{kind}')}"
    web.urls[picture] = url
    return web.answer(url, "picture", picture=picture)


def written(url: str, page_url: str, base: str | None) -> str:
    """The URL as an author writes it: absolute, without scheme, from the root, relative; with a fragment, as bare Unicode."""
    at = urlsplit(urljoin(page_url, base or ""))
    parts = urlsplit(url)
    query = f"?{parts.query}" if parts.query else ""
    same_host = parts.netloc == at.netloc
    item = f"{page_url} {url}"
    match pick("form", item, 10):
        case 0 | 1:
            text = f"//{parts.netloc}{parts.path}{query}"
        case 2 | 3 | 4 if same_host:
            text = f"{parts.path}{query}"
        case 5 | 6 | 7 if same_host:
            text = posixpath.relpath(parts.path, posixpath.dirname(at.path) or "/") + query
        case 8 if pick("fragment", item, 3) == 0:
            text = f"{url}#top"
        case 9 if pick("capitals", item, 3) == 0:
            text = f"HTTP://{parts.netloc.upper()}{parts.path}{query}"
        case _:
            text = url
    text = unquote(text) if "%" in text and pick("unquoted", item, 2) == 0 else text
    if canonical_url(absolute_url(urljoin(page_url, base or ""), text) or "") != url:
        raise ValueError(f"{text} on {page_url} does not mean {url}")
    return text


def add_page_furniture(web: Web, special: dict[str, dict[str, Any]]) -> None:
    """Adds what pages repeat: on every page its host's logo, with a caption; on every third a spacer, with an empty one."""
    logos = sorted(name for name, row in special.items() if row["role"] == "logo")
    for number, host in enumerate(PAGE_HOSTS):
        web.answer(f"http://{host}/logo.png", "picture", picture=logos[number])
    web.answer("http://assets.example/spacer.gif", "picture", picture="special/spacer.gif")
    by_page = defaultdict(list)
    for tag in web.tags:
        by_page[tag["page_url"]].append(tag)
    web.tags = []
    for page in web.pages:
        page_url, base = page["page_url"], page["base"]
        host = urlsplit(page_url).netloc
        logo = f"http://{host}/logo.png"
        add_tag(web, page_url, written(logo, page_url, base), LOGO.format(host=host.split(".")[0]), logo, KEPT)
        for tag in by_page[page_url]:
            add_tag(web, page_url, tag["src"], tag["alt"], tag["url"], tag["fates"][0])
        if pick("spacer", page_url, 3) == 0:
            spacer = "http://assets.example/spacer.gif"
            add_tag(web, page_url, written(spacer, page_url, base), "", spacer, Reason.CAPTION_EMPTY)


def add_robots(web: Web) -> None:
    """Every host closes one folder to everybody; one host has no robots.txt, one speaks to another robot only."""
    for host in HOSTS:
        text = "User-agent: *\nDisallow: /private/\nAllow: /\n"
        if host == "recipes.example":
            text += "\nUser-agent: SomeOtherBot\nDisallow: /\n"
        if host != WITHOUT_ROBOTS:
            web.answer(f"http://{host}/robots.txt", "body", content_type="text/plain", body=text.encode())


# --- fates -------------------------------------------------------------------------------------------------------------


ALSO = {
    Reason.LANGUAGE: [Reason.NO_QUERY],  # nobody promises which of the two filters comes first
    Reason.DNS_NOT_FOUND: [Reason.DNS_FAILED],  # on a machine without name service
}


def settle_fates(web: Web, originals: dict[str, str]) -> None:
    """Adds to each tag's fates those that its neighbours may cause, and names the clusters of URLs that show one picture."""
    entered = [tag for tag in web.tags if tag["url"] and stage(tag["fates"][0]) != "candidates"]
    for tag in web.tags:
        tag["fates"] += ALSO.get(tag["fates"][0], [])
    pairs, captions, clusters = defaultdict(list), defaultdict(set), defaultdict(set)
    for tag in entered:
        pairs[tag["url"], tag["alt"]].append(tag)
        captions[tag["url"]].add(tag["alt"])
        if tag["fates"] == [KEPT]:
            clusters[originals[end_picture(web, tag["url"])]].add(tag["url"])
    for tag in entered:
        if len(pairs[tag["url"], tag["alt"]]) > 1:
            tag["fates"] += [Reason.DUPLICATE_IN_GROUP, Reason.DUPLICATE_PAIR]
        if len(captions[tag["url"]]) > 1:
            tag["fates"] += [Reason.SAME_URL]
        if len(captions[tag["url"]]) > 16:
            tag["fates"] += [Reason.TOO_MANY_CAPTIONS]
    for original, urls in clusters.items():
        if len(urls) > 1:
            join_cluster(web, original, urls, entered)


def join_cluster(web: Web, original: str, urls: set[str], entered: Sequence[dict[str, Any]]) -> None:
    pictures = {url: end_picture(web, url) for url in urls}
    for tag in entered:
        if tag["url"] not in urls:
            continue
        others = [picture for url, picture in pictures.items() if url != tag["url"]]
        tag["cluster"] = original
        tag["fates"] += [Reason.DUPLICATE_BYTES] if pictures[tag["url"]] in others else []
        tag["fates"] += [Reason.DUPLICATE_PICTURE] if {*others} - {pictures[tag["url"]]} else []


def end_picture(web: Web, url: str) -> str:
    """The picture that a URL leads to in the end."""
    resource = web.resources[url]
    while resource["kind"] == "redirect":
        resource = web.resources[urljoin(resource["url"], resource["location"])]
    return str(resource["picture"])


def stage(fate: str) -> str:
    return "" if fate == KEPT else Reason[fate.upper()].stage
