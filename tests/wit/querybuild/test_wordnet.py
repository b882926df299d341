import pytest

from wit.errors import InputError
from wit.querybuild.wordnet import FILES, synset_names

LINES = """  1 This software and database is being provided to you, the LICENSEE, by
02086723 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 023 @ 02085998 n 0000 | a member of the genus Canis
09905672 18 n 02 frump 0 dog 0 001 @ 09943239 n 0000 | a dull unattractive girl
01989669 38 v 0a chase 0 trail 2 tail 0 tag 4 dog 2 track 0 x 0 y 0 z 0 q 0 001 @ 1 v 0000 | go after
00015119 00 s 01 galore(ip) 0 001 & 00013887 a 0000 | existing in abundance
"""


@pytest.fixture
def directory(tmp_path):
    for name in FILES:
        (tmp_path / name).write_text(LINES if name == "data.noun" else "")
    return str(tmp_path)


def test_first_lemmas(directory):
    assert synset_names(directory) == {"dog": 1, "frump": 1, "chase": 1, "galore": 1}


def test_all_lemmas(directory):
    names = synset_names(directory, lemmas="all")
    assert names["dog"] == 3 and names["Canis familiaris"] == 1 and "q" in names and len(names) == 14


def test_another_directory_is_named(tmp_path):
    with pytest.raises(
        InputError, match="no data.noun in .*: give the directory of WordNet's dict files with --wordnet"
    ):
        synset_names(str(tmp_path))
