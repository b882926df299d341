import sys
from pathlib import Path

import pytest

from pipelines import build, commandline
from wit.errors import InputError


@pytest.mark.parametrize(
    "arguments, field, value",
    [
        (["--target", "400M"], "target", 400_000_000),
        (["--target=1.5k"], "target", 1_500),
        (["--target", "12"], "target", 12),
        (["--max-per-query", "20k"], "max_per_query", 20_000),
    ],
)
def test_counts_may_have_a_suffix(arguments: list[str], field: str, value: int) -> None:
    assert getattr(commandline.parse(arguments)[0].plan, field) == value


def test_flags_win_over_toml_and_toml_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "build.toml"
    path.write_text('seed = 3\nsource = ["wat:a", "wat:b"]\n[plan]\noversample = 1.5\nmax-per-query = 9\n')
    config, _ = commandline.parse(["--config", str(path), "--max-per-query", "11"])
    assert (config.seed, config.source) == (3, ("wat:a", "wat:b"))
    assert (config.plan.oversample, config.plan.max_per_query, config.plan.max_captions_per_url) == (1.5, 11, 16)


TOP = """
target = "400M"
seed = 3
image-size = 384
keep_original = true
languages = ["en", "de"]
host-rate-per-s = 2
[plan]
max-per-query = "20k"
"""


def test_a_toml_file_takes_the_spelling_of_the_flags(tmp_path: Path) -> None:
    (tmp_path / "build.toml").write_text(TOP, encoding="utf-8")
    config, _ = commandline.parse(["--config", str(tmp_path / "build.toml")])
    assert (config.plan.target, config.plan.max_per_query, config.seed) == (400_000_000, 20_000, 3)
    assert (config.image.image_size, config.image.keep_original) == (384, True)
    assert (config.candidates.languages, config.fetch.host_rate_per_s) == (("en", "de"), 2.0)


@pytest.mark.parametrize(
    "text, said",
    [
        ('seed = "x"', "seed is 'x': give a whole number"),
        ("seed = 1.5", "seed is 1.5: give a whole number"),
        ("seed = true", "seed is True: give a whole number"),
        ('image-size = "big"', "image-size is 'big': give a whole number"),
        ("keep-original = 1", "keep-original is 1: give true or false"),
        ('languages = "en"', "languages is 'en': give a list, each a text in quotes"),
        ("languages = [1]", r"languages is \(1,\): give a list, each a text in quotes|languages is \[1\]: give a list"),
        ('resize-mode = "squash"', "resize-mode is 'squash': no such value; have no, border"),
        ('endpoints = [["h", "127.0.0.1"]]', "endpoints is .*: give a list, each a list of a text in quotes"),
        ("[plan]\noversample = []", r"oversample is \[\]: give a number"),
        ("image-sise = 3", r"no such setting: image-sise; did you mean image_size\?"),
        ("[fetsh]", r"no such setting: fetsh; did you mean fetch\?"),
        ("[image]\nimage-sise = 3", r"no such setting: image_sise; .*did you mean image_size\?"),
        ("min-side-px = 3", "min-side-px is gone, since nothing hung on it: leave it out"),
        ("[image]\nmin_side_px = 3", "min_side_px is gone, since nothing hung on it: leave it out"),
        ("[plan]\nimage-size = 3", "no such setting: image_size"),
        ("image-size = 3\n[image]\nimage_size = 4", "image-size stands there twice|image_size stands there twice"),
        ("plan = 3", r"plan is a table: write \[plan\]"),
        ("image-size = -1", "--image-size is -1"),
        ("=", "is not TOML"),
    ],
)
def test_a_wrong_value_in_a_toml_file_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "build.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said) as error:
        commandline.parse(["--config", str(tmp_path / "build.toml")])
    assert "build.toml" in str(error.value) and "\n" not in str(error.value)


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "docs/build.toml"
    config, beam = commandline.parse(["--config", str(example)])
    assert (config.plan.max_per_query, config.image.image_size, beam) == (20_000, 256, ())


def test_what_we_do_not_know_goes_to_beam() -> None:
    flags = ["--runner=SparkRunner", "--parallelism", "4", "--spark_master_url", "local[2]"]
    assert commandline.parse(["--seed", "1", *flags])[1] == tuple(flags)


def test_a_misspelt_flag_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown option --oversampel; did you mean --oversample\?"):
        commandline.parse(["--runner=SparkRunner", "--oversampel", "2"])


@pytest.mark.parametrize(
    "flag, said",
    [
        ("--max_num_wokers=3", "unknown option --max-num-wokers; did you mean --max_num_workers?"),
        ("--no-perceptual-hashs", "unknown option --no-perceptual-hashs; did you mean --no-perceptual-hashes?"),
        ("--qqqzzz", "no option of wit or Beam: --qqqzzz; see --help"),
        ("--keep-original=True", '--keep-original takes no value: leave out "=True"'),
    ],
)
def test_what_was_meant_is_told_in_one_sentence(flag: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        commandline.parse([flag])
    assert str(refused.value) == said


@pytest.mark.parametrize("stages", ["plan,candidates", "candidates,plan", " plan , candidates,plan"])
def test_stages_run_in_their_order_in_whatever_order_they_are_given(stages: str) -> None:
    assert commandline.parse(["--stages", stages])[0].stage_names() == ["candidates", "plan"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--queries", "no/such/file.txt"], "no query list at"),
        (["--queries", "{empty}"], "is empty"),
        (["--queries", "{latin}"], "is not UTF-8"),
        (["--queries", "{marks}"], "can match a caption under --matching words ('!!!', ...)"),
        (["--queries", "{object}"], "is a JSON object: give an array of strings"),
        (["--languages", "english"], "--languages english: no such language code; write en"),
        (["--languages", "de", "xx"], "--languages xx: no such language code; known are 176 codes"),
        (["--source", "gopher:x"], "gopher"),
        (["--verify-hash", "md5"], "no table has such a column"),
        (["--source", "wat:{tmp}/none/*.gz"], "no file matches"),
        (["--stages", "candidates,deploy"], "no such stage: deploy"),
        (["--stages", "candidates,pln"], "no such stage: pln; have candidates, plan, "),
        (["--max-aspekt-ratio", "3"], "unknown option --max-aspekt-ratio; did you mean --max-aspect-ratio?"),
        (["--min-side-px", "3"], "--min-side-px is gone, since nothing hung on it: leave it out"),
        (["--resize-mode", "keepratio"], "--resize-mode keepratio: no such value; have no, border, keep_ratio,"),
        (["--rebuild-from", "candidate"], "; did you mean candidates?"),
        (["--retry-reason", "robots_dissallowed"], "failed download; did you mean robots_disallowed?"),
        (["--contact", "me"], "--contact me is neither a mail address nor a web page: write it as you@example.org"),
        (["--languages", "EN"], "--languages EN: no such language code; write en"),
        (["stray"], "unknown argument stray"),
        (["--config", "none.toml"], "no such configuration file"),
        (["--output", "{foreign}"], "holds files of something else"),
        (["--source", "wat:{wat}"], "--contact"),
        (["--cap", "hard", "--target", "5"], "--cap hard"),
        *[
            ([*more, flag, value], said)
            for more in ([], ["--dry-run"])
            for flag, value, said in (
                ("--blocked-hashes", "{tmp}/none.txt", "no such file"),
                ("--blocked-hashes", "{foreign}", "cannot be read (Is a directory)"),
                ("--blocked-hashes", "{latin}", "is no UTF-8 text"),
                ("--blocked-hashes", "{marks}", "line 1, is no hash: write 64 hexadecimal digits"),
                ("--language-model", "{tmp}/none.bin", "no language model at"),
                ("--language-model", "{foreign}", "is no file: give the path of a local lid.176.bin"),
                ("--language-model", "{marks}", "is not a fastText model"),
                ("--host-limits", "{tmp}/none.toml", "no such file"),
                ("--host-limits", "{marks}", "is not TOML"),
                ("--ca-file", "{tmp}/none.pem", "is no file: give the PEM file"),
                ("--ca-file", "{marks}", "holds no certificates that can be read"),
                ("--runner", "FooRunner", "--runner FooRunner cannot be used (Unexpected pipeline runner: FooRunner."),
                ("--output", "s3://bucket/set", "needs a client of s3:// that is not installed: pip install wit[aws]"),
                ("--output", "foo://bucket/set", "cannot be opened (Protocol not known: foo)"),
                ("--queries", "s3://bucket/q.txt", "needs a client of s3://"),
                ("--config", "gs://bucket/build.toml", "pip install wit[gcp]"),
            )
        ],
        (
            ["--stages", "candidates,plan,download,score", "--score-checkpoint", "{tmp}/none"],
            "no such checkpoint",
        ),
        (["--stages", "candidates,plan,download,score", "--score-checkpoint", "{foreign}"], "no checkpoint in"),
        (["--stages", "candidates,plan,download,score", "--score-checkpoint", "{marks}"], "is no whole checkpoint"),
    ],
)
def test_bad_input_gets_one_sentence_exit_code_2_and_touches_nothing(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for client in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, client, None)  # as where they are not installed
    places = {name: tmp_path / name for name in ("empty", "latin", "marks", "object", "foreign", "wat")}
    places["empty"].write_bytes(b"\n")
    places["latin"].write_bytes("café\n".encode("latin-1"))
    places["marks"].write_text("!!!\n💷\n")
    places["object"].write_text('{"dog": 3}')
    places["foreign"].mkdir()
    (places["foreign"] / "00000.tar").touch()
    places["wat"].touch()
    filled = [a.format(tmp=tmp_path, **{k: str(v) for k, v in places.items()}) for a in arguments]
    if "--output" not in filled:
        filled += ["--output", str(tmp_path / "out")]
    if "--queries" not in filled:
        (tmp_path / "queries.txt").write_text("dog\n")
        filled += ["--queries", str(tmp_path / "queries.txt")]
    before = sorted(tmp_path.rglob("*"))
    assert build.main(filled) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and said in error and "\n" not in error
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "flag",
    ["max-domain-hours", "oversample", "max-aspect-ratio", "min-clip-score", "language-min-score", "publish-buffer-mb"],
)
def test_no_number_is_none(flag: str) -> None:
    with pytest.raises(InputError, match=f"--{flag} is nan"):
        commandline.parse([f"--{flag}", "nan"])
    if flag in ("max-domain-hours", "oversample"):
        with pytest.raises(InputError, match=f"--{flag} is inf"):
            commandline.parse([f"--{flag}", "inf"])
