"""What never becomes a query, and what only looks like it."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from wit.errors import InputError
from wit.querybuild.entries import Origin
from wit.querybuild.unsafe import NONE, SHIPPED, Terms, load_stems, without_unsafe
from wit.querycheck import forms

LIST = Path(__file__).parents[3] / "queries" / "500k.parquet"
STAYS = {
    "word": "analyst analysis cocktail grape rapeseed therapist essex sussex scunthorpe cockpit peacock hancock hitchcock "
    "assess assassin class titmouse tit dickens dickinson dick titan shiitake matsushita cumin cucumber document cumming "
    "sextant sextet saxophone middlesex asexual bisexual lesbian gay queer transgender homosexual penis vagina breast nipple "
    "clitoris copulation semen sperm libido puberty lingerie bikini dyke negro gypsy coolie raccoon tycoon cocoon therapy "
    "canal banal uranus pornic niggle snigger niggardly spice suspicion chinkapin pakistan retardant twinkle booby bass butter "
    "buttercup button shuttlecock woodcock swank saltwater bitcoin hooter teen girl boy child lust sissy spade cracker pedometer",
    "place": "Essex Junction;Scunthorpe;Lund;Polla;Gandu;Pornic;Coon Rapids;Cuntis;Dan Khun Thot;Bangkok;Penistone;Sexsmith",
    "synset": "sex chromosome;sexual reproduction;same-sex marriage;secondary sexual characteristic;breast cancer;cum laude;"
    "pussy willow;Maine coon;cock of the rock;naked mole rat;sperm whale;great tit;golden shower tree;spick-and-span;fag end;"
    "genital herpes;Gay-Lussac;horny layer;Karen Horney;gay liberation movement;Joseph Hooker;stinking smut;Juglans nigra",
    "bigram": "breast cancer;chicken breast;gay marriage;gay pride;same sex;sex education;sexual orientation;bald eagle;hot dog;"
    "young girl;little boy;teenage years;child care;child abuse;naked eye;sperm whale;mature trees;underage drinking;role model;"
    "homo sapiens;babe ruth;paris hilton;desperate housewives;silk stockings;horse riding;farm animals;amateur radio;spark plug",
}
GOES = {
    "word": "porn freeporn pornhub sex sexy xxx milf hentai nude naked erotic lolita loli preteen jailbait pedophile upskirt "
    "nudist incest rape rapist bestiality "
    "blowjob masturbation dildo orgasm fuck motherfucker fuck's pussy cunt slut whore tits boobs "
    "shit bullshit nigger faggot kike chink tranny shemale retard midget redskins golliwog puta mierda cock cum bitch",
    "place": "Porn;Nigger",
    "synset": "child pornography;kiddie porn;Lolita;sexual intercourse;oral sex;missionary position;statutory rape;wet dream;"
    "street girl;half-breed;Indian giver;son of a bitch;porn merchant;date rape",
    "bigram": "teen models;hot teen;preteen models;young naked;young nude;sexy girl;school sex;little pussy;girls naked;"
    "child sex;bikini models;bikini teen;sex education sex;gay porn;breast bondage;big breasts;mature women;asian teen;blow job;"
    "camel toe;"
    "horse mating;women horse;naked women;nude art;shaved young;celebrity oops;sexual positions;white trash;teens tiffany",
}


def rows(table):
    return [
        (origin, entry)
        for origin, listed in table.items()
        for entry in (listed.split() if origin == "word" else listed.split(";"))
    ]


@pytest.fixture(scope="module")
def stems():
    return load_stems(SHIPPED)


def group_of(stems, origin, entry):
    return stems.group_of(forms([entry], "words")[0].decode(), Origin(origin))


@pytest.mark.parametrize("origin, entry", rows(STAYS))
def test_what_only_looks_like_it_stays(stems, origin, entry):
    assert group_of(stems, origin, entry) is None


@pytest.mark.parametrize("origin, entry", rows(GOES))
def test_what_is_unsafe_goes(stems, origin, entry):
    assert group_of(stems, origin, entry) is not None


SEXUAL = "nude naked sexy hot porn sex bikini topless xxx".split()
MINORS = "young little teen preteen teenage school boy girl kid child children minor underage daughter".split()


@pytest.mark.parametrize("sexual", SEXUAL)
@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize("origin", ["bigram", "title", "synset"])
def test_a_word_for_minors_beside_a_sexual_one_goes_in_either_order(stems, origin, minor, sexual):
    if {minor, sexual} == {"little", "hot"}:
        return  # "a little hot" is the weather
    assert group_of(stems, origin, f"{minor} {sexual}") and group_of(stems, origin, f"{sexual} {minor}")


def test_the_shipped_list_holds_nothing_that_the_shipped_stems_take(stems):
    table = pq.read_table(LIST)
    entries, origins = table["entry"].to_pylist(), table["origin"].to_pylist()
    taken = [(entry, origin) for entry, form, origin in zip(entries, forms(entries, "words"), origins, strict=True)
             if stems.group_of(form.decode(), Origin(origin))]  # fmt: skip
    assert len(entries) == 500_000 and taken == []


def test_every_group_says_why(stems):
    assert all(group.why.strip() for group in stems.groups)
    assert len({group.name for group in stems.groups}) == len(stems.groups)


@pytest.mark.parametrize(
    "terms, words, places",
    [
        ("fuck*", "fucking hell", {0}),
        ("*porn", "food porn foodporn", {1, 2}),
        ("porn", "pornic", set()),
        ("blow job*", "a blow jobs fair", {1, 2}),
        ("blow job*", "blow", set()),
        ("cum, cunt", "Cum", set()),  # words come folded
        ("a b, b c", "a b c", {0, 1, 2}),
    ],
)
def test_a_term_is_a_word_or_a_run_of_words(terms, words, places):
    assert Terms(terms).places(words.split()) == places


def write(tmp_path, text):
    path = tmp_path / "stems.toml"
    path.write_text(text)
    return str(path)


def test_a_group_asks_for_a_second_word_for_its_origins_and_passes_over_what_it_keeps(tmp_path):
    text = '[[group]]\nname = "g"\nwhy = "w"\ntakes = "hot"\nbeside = "teen, hot"\nkeeps = "red hot"\norigins = ["bigram"]\n'
    stems = load_stems(write(tmp_path, text))
    asked = ["hot teen", "hot", "hot hot", "red hot teen", "hot dog"]
    assert [stems.group_of(form, Origin.BIGRAM) for form in asked] == ["g", None, "g", None, None]
    assert stems.group_of("hot teen", Origin.SYNSET) is None


def test_what_goes_is_counted_by_group_and_origin():
    offered = {Origin.WORD: {"fox": 3.0, "Porn": 2.0}, Origin.BIGRAM: {"red fox": 1.0, "teen sex": 9.0}}
    kept, taken = without_unsafe(offered, load_stems(SHIPPED))
    assert kept == {Origin.WORD: {"fox": 3.0}, Origin.BIGRAM: {"red fox": 1.0}}
    assert taken == {("pornography", Origin.WORD): 1, ("minors beside sexual words", Origin.BIGRAM): 1}
    assert without_unsafe(offered, load_stems(NONE)) == (offered, {})


@pytest.mark.parametrize(
    "text, says",
    [
        ("no toml at all", "is no table of stems"),
        ('[[group]]\nname = "g"\n', "is no table of stems .*why"),
        ('[[group]]\nname = "g"\nwhy = "w"\ntakes = "x"\nkeep = "y"\n', "no such key: keep"),
        ('[[group]]\nname = "g"\nwhy = "w"\ntakes = "x* y"\n', "begins with a whole word"),
        ('[[group]]\nname = "g"\nwhy = "w"\ntakes = "x"\norigins = ["nowhere"]\n', "nowhere"),
    ],
)
def test_a_bad_table_of_stems_gets_one_sentence(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        load_stems(write(tmp_path, text))


def test_a_missing_table_of_stems_is_named(tmp_path):
    with pytest.raises(InputError, match="no stems at .*nothing.toml"):
        load_stems(str(tmp_path / "nothing.toml"))


@pytest.mark.parametrize(
    "bigram", ["destroyer escort", "barn swallow", "spy plane", "great tit", "beaver dam", "slave ship"]
)
def test_wikipedias_bigrams_are_not_taken_for_a_shop_window(stems, bigram):
    assert load_stems(SHIPPED, recipe="wikipedia").group_of(bigram, Origin.BIGRAM) is None
    assert stems.group_of(bigram, Origin.BIGRAM) == "bigram: body, shop and pornography"


@pytest.mark.parametrize("bigram", ["teen models", "naked girl", "blow job", "gay porn", "young nude", "sex toys"])
def test_what_goes_from_every_bigram_goes_from_wikipedias(bigram):
    assert load_stems(SHIPPED, recipe="wikipedia").group_of(bigram, Origin.BIGRAM)
