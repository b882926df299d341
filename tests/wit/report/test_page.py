"""The templates, filled."""

from dataclasses import fields, replace
from importlib import resources

import pytest
from jinja2 import UndefinedError

from wit.report.facts import Coverage, HostLosses, PageFacts, QueryRow
from wit.report.gallery import Figure
from wit.report.page import dataset_card, render, report_page
from wit.tally import Tally

STAGES = {"plan": Tally(into=4_000, out=1_000, dropped={"same_url": 2_000, "balanced_out": 1_000})}
FACTS = PageFacts(
    name="wit-0123",
    version="9.9",
    stages_run=("candidates", "plan"),
    samples_total=12_345,
    shards_total=3,
    candidates_in=90_000,
    survival=0.756,
    hosts_total=1_234,
    queries_total=5,
    queries_hit=4,
    queries_sha256="ab" * 32,
    coverage=Coverage([("1 to 9", 2), ("10 to 99", 4)], 1, 3, 0.25),
    cap="20,000",
    oversample=2.0,
    unmatched=["fish & <chips>"],
    left_for_language=1_111,
    languages=("en", "de"),
    top_queries=[QueryRow("dog", 5_000, 4_000, 3_000, 2_000, True, 0, None)],
    thin_queries=[],
    worst_hosts=[HostLosses("a.example", 7_000, 6_000, "http_not_found")],
    warnings=["look <here>"],
    sources=("demo", "table:a & b"),
    max_per_query=20_000,
    heeded=("robots.txt", "X-Robots-Tag", "TDM reservations"),
    size_category="10K<n<100K",
)
FIGURES = [Figure('a "red" <dog>', "data:image/png;base64,AA==")]


def page(facts: PageFacts = FACTS) -> str:
    return report_page(STAGES, FIGURES, facts).decode()


@pytest.mark.parametrize(
    "part",
    [
        "<title>wit-0123: build report</title>",
        "wit 9.9 · candidates, plan<",
        "<b>12,345</b>samples in 3 shards",
        "<b>90,000</b>pairs seen",
        "<b>75.6%</b>of planned pictures arrived",
        "<b>1,234</b>hosts asked",
        "<b>4</b>of 5 queries have a sample",
        '<td>same url</td>\n<td class="n">2,000</td><td class="n">50.0%</td>',
        "1 query matched nothing: fish &amp; &lt;chips&gt;.",
        "1,111 pairs that matched left for the language of their captions (<code>--languages en, de</code>",
        "3 matched more pairs than the cap of 20,000 and hold 25.0% of all matches",
        '<td>1 to 9</td><td class="n">2</td><td class="bar"><span style="width:50.0%">',
        "<code>--oversample</code> (2.0)",
        '<td>dog</td><td class="n">5,000</td><td class="n">4,000</td><td class="n">3,000</td><td class="n">2,000</td>',
        '<td>a.example</td><td class="n">7,000</td><td class="n">6,000</td><td>http not found</td>',
        '<p class="warn">look &lt;here&gt;</p>',
        '<img src="data:image/png;base64,AA==" alt="a &#34;red&#34; &lt;dog&gt;">',
        "<figcaption>a &#34;red&#34; &lt;dog&gt;</figcaption>",
    ],
)
def test_the_page_says(part: str) -> None:
    assert part in page()


def test_the_page_is_one_file_without_a_script() -> None:
    assert "<script" not in page() and "//" not in page()


def test_queries_that_lack_are_listed_where_there_are_any() -> None:
    assert "lacking" not in page()
    thin = [QueryRow("dog", 9, 8, 7, 6, True, 5, 1.25), QueryRow("cat", 9, 8, 7, 0, True, 5, None)]
    listed = page(replace(FACTS, thin_queries=thin))
    assert '<td class="n">6</td><td class="n">5</td><td class="n">1.25</td>' in listed
    assert '<td class="n">0</td><td class="n">5</td><td class="n">none</td>' in listed


def test_of_many_queries_without_a_match_some_are_named() -> None:
    many = replace(FACTS, coverage=replace(FACTS.coverage, empty=7), unmatched=["a", "b"], left_for_language=0)
    assert "7 queries matched nothing: a, b, ... (all are in ledger/queries.parquet)." in page(many)
    assert "--languages" not in page(many)


@pytest.mark.parametrize(
    "part",
    [
        "---\npretty_name: wit-0123\nsize_categories:\n- 10K<n<100K\n",
        "\n12,345 image-text pairs in 3 WebDataset shards (`shards/`), built by wit 9.9.\n",
        "|---:|\n| plan | 4,000 | 1,000 | 3,000 |\n\nSources",
        f"\nSources: demo, table:a & b. Queries: 5 (sha256 `{'ab' * 32}`), at most about 20,000 pairs a query.\n",
    ],
)
def test_the_card_says(part: str) -> None:
    assert part in dataset_card(STAGES, FACTS).decode()


@pytest.mark.parametrize("name", [field.name for field in fields(PageFacts)])
def test_every_fact_is_told(name: str) -> None:
    templates = resources.files("wit.report").joinpath("templates")
    assert any(f"facts.{name}" in template.read_text("utf-8") for template in templates.iterdir())


def test_what_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'figures' is undefined"):
        render("report.html", facts=FACTS, funnel=[])
    with pytest.raises(UndefinedError, match="has no attribute 'name'"):
        render("card.md", facts=FACTS.coverage, stages=STAGES)


@pytest.mark.parametrize(
    "heeded, words",
    [
        (FACTS.heeded, "fetched under robots.txt, X-Robots-Tag and TDM reservations."),
        (("X-Robots-Tag", "TDM reservations"), "fetched under X-Robots-Tag and TDM reservations."),
        (("robots.txt",), "fetched under robots.txt."),
        ((), "fetched whatever robots.txt, X-Robots-Tag and TDM reservations said."),
    ],
)
def test_the_card_says_which_opt_outs_were_honoured(heeded: tuple[str, ...], words: str) -> None:
    assert words in dataset_card(STAGES, replace(FACTS, heeded=heeded)).decode()
