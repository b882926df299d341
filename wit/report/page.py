"""The page and the dataset card, from the templates in this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from wit.ledger import funnel_rows
from wit.report.facts import PageFacts
from wit.report.gallery import Figure
from wit.tally import Tally


def report_page(stages: Mapping[str, Tally], figures: Sequence[Figure], facts: PageFacts) -> bytes:
    """report/index.html: self-contained, no script, pictures inline."""
    return render("report.html", funnel=funnel_rows(stages), figures=figures, facts=facts)


def dataset_card(stages: Mapping[str, Tally], facts: PageFacts) -> bytes:
    """README.md of the set, with the metadata that the Hugging Face hub reads."""
    return render("card.md", stages=stages, facts=facts)


def render(template: str, **values: Any) -> bytes:
    """A filled template of this folder. A missing value raises jinja2's UndefinedError; in HTML, values are escaped."""
    source = resources.files("wit.report").joinpath("templates", template).read_text("utf-8")
    environment = Environment(undefined=StrictUndefined, autoescape=template.endswith("html"), trim_blocks=True)
    environment.filters["thousands"] = lambda n: f"{n:,}"
    environment.filters["spoken"] = spoken
    environment.filters["percent"] = lambda x: f"{x:.1%}"
    return environment.from_string(source).render(**values).encode()


def spoken(names: Sequence[str]) -> str:
    """One name, or several with commas and "and": a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
