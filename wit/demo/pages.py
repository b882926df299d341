"""The pages of the demonstration web: their HTML, and the links that a crawl notes."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from typing import Any

from wit.demo.tables import load, pick

Row = dict[str, Any]


@functools.cache
def pages() -> dict[str, Row]:
    """Every page by its URL, in order."""
    return {row["page_url"]: row for row in load("pages").to_pylist()}


@functools.cache
def tags_of_pages() -> dict[str, list[Row]]:
    """The img tags of every page, in order."""
    tags: dict[str, list[Row]] = defaultdict(list)
    for row in load("tags").select(["page_url", "index", "src", "alt"]).to_pylist():
        tags[row["page_url"]].append(row)
    return tags


def page_html(page_url: str) -> str:
    page, tags = pages()[page_url], tags_of_pages()[page_url]
    base = f'\n<base href="{escape(page["base"])}">' if page["base"] else ""
    body = "\n".join(tag_html(tag) for tag in tags)
    return (
        f'<!DOCTYPE html>\n<html lang="{page["language"]}">\n<head>\n<meta charset="utf-8">{base}\n'
        f"<title>{escape(page['title'])}</title>\n"
        f'<meta name="description" content="{escape(description(page))}">\n'
        f'<link rel="stylesheet" href="/style.css">\n</head>\n<body>\n<h1>{escape(page["title"])}</h1>\n{body}\n'
        f'<p>{escape(description(page))}</p>\n<p><a href="/">Front page</a></p>\n</body>\n</html>\n'
    )


def description(page: Row) -> str:
    return f"{page['title']}: pictures & words"


def tag_html(tag: Row) -> str:
    """The tag in one of several styles, as different authors write it: inside a link, with other attributes, in capitals."""
    src = f'src="{escape(tag["src"])}"'
    alt = "" if tag["alt"] is None else f' alt="{escape(tag["alt"])}"'
    match style_of(tag):
        case 0:
            return f'<p><a href="#picture-{tag["index"]}"><img {src}{alt}></a></p>'
        case 1:
            return f"<IMG{alt.replace('alt=', 'ALT=')} {src.replace('src=', 'SRC=', 1)}>"
        case 2:
            return f'<div class="picture"><img width="120" {src}{alt} loading="lazy" /></div>'
        case _:
            return f"<p><img {src}{alt}></p>"


def style_of(tag: Row) -> int:
    return pick("markup", f"{tag['page_url']} {tag['index']}", 6)


def html_metadata(page_url: str) -> Row:
    """The page's HTML-Metadata in a WAT record, as ia-web-commons writes it, entries in document order."""
    page, tags = pages()[page_url], tags_of_pages()[page_url]
    head: Row = {"Metas": [{"name": "HTML@/lang", "content": page["language"]}]}
    head["Metas"].append({"name": "description", "content": description(page)})
    head |= {"Base": page["base"]} if page["base"] else {}
    head |= {"Title": page["title"], "Link": [{"path": "LINK@/href", "url": "/style.css", "rel": "stylesheet"}]}
    return {"Head": head, "Links": links(tags)}


def links(tags: Sequence[Row]) -> list[Row]:
    listed = []
    for tag in tags:
        alt = {} if tag["alt"] is None else {"alt": tag["alt"]}
        listed.append({"path": "IMG@/src", "url": tag["src"], **alt})
        if style_of(tag) == 0:
            listed.append({"path": "A@/href", "url": f"#picture-{tag['index']}"})
    return [*listed, {"path": "A@/href", "url": "/", "text": "Front page"}]
