import pytest

from wit.querybuild.wikitext import strip_wikitext


@pytest.mark.parametrize(
    "wikitext, text",
    [
        ("The '''red fox''' is ''Vulpes vulpes''.", "The red fox is Vulpes vulpes."),
        ("a [[fox]] and [[Red fox|foxes]]s", "a fox and foxess"),
        ("[[File:Fox.jpg|thumb|A [[red fox]] in [[snow]]]]after", "after"),
        ("[[Category:Foxes]][[de:Rotfuchs]][[:zh-min-nan:X]]after", "after"),
        ("{{Infobox|name={{lang|la|Vulpes}}}}after", "after"),
        ('{| class="wikitable"\n| a || {{b}}\n{| \n| inner\n|}\n|}after', "after"),
        ("fact<ref name=a>{{cite web}}</ref><ref name=b /> more<!-- hidden -->", "fact more"),
        ("[https://fox.example/a The Fox Site] https://fox.example/b", "The Fox Site"),
        ("<math>x^2</math><gallery>\nFile:a.jpg|b\n</gallery><small>small</small><br/>", "small"),
        ("== Habitat ==\n* first\n# second\n:; third\n__NOTOC__", "Habitat first second third"),
        ("AT&amp;T&nbsp;&ndash; 5&lt;6", "AT&T – 5<6"),
        ("}} half {{ open [[ markup", "}} half {{ open [[ markup"),
    ],
)
def test_what_a_reader_sees(wikitext, text):
    assert strip_wikitext(wikitext).split() == text.split()


def test_deep_nesting_ends():
    assert "after" in strip_wikitext("{{a|" * 5000 + "}}" * 5000 + "after")
