"""Options: one dataclass is the command line, its help and its file; every mistake is one line and exit code 2."""

import json
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt import options
from gpt.options import UsageError, command, from_json, option, parse, run, to_json
from tensorlite.utils.pipe import reader_may_leave


@dataclass(frozen=True)
class Config:
    data: tuple[Path, ...] = option((), "text files to train on")
    out: Path = option(Path("runs"), "folder of the runs")
    name: str = option("first", "name of the run")
    n_layer: int = option(4, "transformer blocks")
    lr: float = option(1e-3, "peak learning rate")
    grad_clip: float | None = option(1.0, "largest gradient norm")
    steps: int | None = option(None, "optimizer steps")
    decay: Literal["cosine", "none"] = option("cosine", "how the learning rate falls to 10%")
    block: Literal[64, 256] = option(64, "context length, tokens")
    betas: tuple[float, ...] = option((0.9, 0.99), "AdamW's decay rates")
    resume: bool = option(False, "go on from the last checkpoint")
    plain: int = 0  # a field needs no option()


SHORT = Config()
LONG = replace(SHORT, name="second", lr=3e-4, resume=True, data=(Path("a.txt"),))


def parsed(*argv: str) -> Config:
    return parse(Config, argv, {"short": SHORT, "long": LONG}, "short", "pretrain", "Train a GPT.")


def refused(capsys, *argv: str) -> str:
    """The one line that a wrong command line prints."""
    with pytest.raises(SystemExit) as stopped:
        parsed(*argv)
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and printed.out == ""
    assert printed.err.startswith("pretrain: ") and printed.err.endswith("\n") and printed.err.count("\n") == 1
    return printed.err.removeprefix("pretrain: ").removesuffix("\n")


def test_option_is_its_default():
    assert SHORT.lr == 1e-3 and SHORT.data == ()
    assert {f.name: f.metadata.get("help") for f in fields(Config)}["n_layer"] == "transformer blocks"


def test_presets():
    assert parsed() == SHORT == parsed("--preset", "short")
    assert parsed("--preset", "long") == LONG == parsed("--preset=long")


@pytest.mark.parametrize(
    "argv, field, value",
    [
        ("--data a.txt b/c.txt", "data", (Path("a.txt"), Path("b/c.txt"))),
        ("--out elsewhere", "out", Path("elsewhere")),
        ("--name x", "name", "x"),
        ("--name=--x", "name", "--x"),
        ("--name=", "name", ""),
        ("--name none", "name", "none"),
        ("--n-layer 12", "n_layer", 12),
        ("--lr 3e-4", "lr", 3e-4),
        ("--lr=-1", "lr", -1.0),
        ("--grad-clip none", "grad_clip", None),
        ("--grad-clip 2", "grad_clip", 2.0),
        ("--steps 100", "steps", 100),
        ("--decay none", "decay", "none"),
        ("--block 256", "block", 256),
        ("--betas .9 .95 .99", "betas", (0.9, 0.95, 0.99)),
        ("--resume", "resume", True),
        ("--no-resume", "resume", False),
        ("--plain 1", "plain", 1),
    ],
)
def test_a_flag_replaces_its_field_in_every_preset(argv, field, value):
    for preset, base in (("short", SHORT), ("long", LONG)):
        for words in (["--preset", preset, *argv.split()], [*argv.split(), "--preset", preset]):
            config = parsed(*words)
            assert config == replace(base, **{field: value})
            assert type(getattr(config, field)) is type(value)


@pytest.mark.parametrize(
    "argv, line",
    [
        ("--preset lng", "unknown preset 'lng'; the presets are short, long; did you mean long?"),
        ("--preset gpt3 --help", "unknown preset 'gpt3'; the presets are short, long"),
        ("--nlayer 3", "unknown option --nlayer; did you mean --n-layer?"),
        ("--n_layer=3", "unknown option --n_layer; did you mean --n-layer?"),
        ("--no-resum", "unknown option --no-resum; did you mean --no-resume?"),
        ("--quantum", "unknown option --quantum; --help lists them"),
        ("-x", "unknown option -x; --help lists them"),
        ("input.txt", "unexpected argument 'input.txt'; a value comes after its flag"),
        ("--n-layer 3.5", "--n-layer expects a whole number, got '3.5'"),
        ("--n-layer none", "--n-layer expects a whole number, got 'none'"),
        ("--lr fast", "--lr expects a finite number, got 'fast'"),
        ("--lr nan", "--lr expects a finite number, got 'nan'"),
        ("--lr inf", "--lr expects a finite number, got 'inf'"),
        ("--grad-clip off", "--grad-clip expects a finite number, or none, got 'off'"),
        ("--decay linear", "--decay expects one of cosine, none, got 'linear'"),
        ("--block 65", "--block expects one of 64, 256, got '65'"),
        ("--betas 0.9 x", "--betas expects a list, each item a finite number, got 'x'"),
    ],
)
def test_a_mistake_is_one_line(capsys, argv, line):
    assert refused(capsys, *argv.split()) == line


@pytest.mark.parametrize("argv", ["--lr", "--data", "--preset", "--resume=3"])
def test_a_flag_needs_its_value_and_no_other(capsys, argv):
    assert argv.partition("=")[0] in refused(capsys, argv)


@pytest.mark.parametrize("argv", ["--n-lay 3", "--pre long", "--res", "--hel"])
def test_flags_cannot_be_abbreviated(capsys, argv):
    assert "unknown option" in refused(capsys, *argv.split())


def test_help_shows_every_field_and_the_values_of_the_preset(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stopped:
        parsed("--preset", "long", "--help")
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and "Train a GPT." in text
    for line in (
        "start from the values of: short, long (default: short)",
        "text files to train on (default: a.txt)",
        "peak learning rate (default: 0.0003)",
        "largest gradient norm (default: 1.0)",
        "optimizer steps (default: none)",
        "how the learning rate falls to 10% (default: cosine)",
        "AdamW's decay rates (default: 0.9 0.99)",
        "go on from the last checkpoint (default: yes)",
        "--data PATH [PATH ...]",
        "--n-layer N",
        "--decay {cosine,none}",
        "--resume, --no-resume",
    ):
        assert line in text
    assert all("--" + f.name.replace("_", "-") in text for f in fields(Config))


# config.json

finite = st.floats(allow_nan=False, allow_infinity=False)
paths = st.text(st.characters(codec="utf-8", exclude_characters="\0")).map(Path)
configs = st.builds(
    Config,
    data=st.lists(paths).map(tuple),
    out=paths,
    name=st.text(st.characters()),
    n_layer=st.integers(),
    lr=finite,
    grad_clip=st.none() | finite,
    steps=st.none() | st.integers(),
    decay=st.sampled_from(["cosine", "none"]),
    block=st.sampled_from([64, 256]),
    betas=st.lists(finite).map(tuple),
    resume=st.booleans(),
)


@given(configs)
def test_json_round_trip_is_exact(config):
    again = from_json(Config, to_json(config))
    assert again == config and repr(again) == repr(config)


def test_json_is_plain():
    assert json.loads(to_json(LONG))["data"] == ["a.txt"]
    assert json.loads(to_json(LONG))["steps"] is None
    with pytest.raises(ValueError, match="JSON"):
        to_json(replace(SHORT, lr=float("inf")))


def test_whole_numbers_are_floats_too():
    lr = from_json(Config, json.dumps(json.loads(to_json(SHORT)) | {"lr": 1})).lr
    assert lr == 1 and type(lr) is float


@pytest.mark.parametrize(
    "key, value, reason",
    [
        ("n_layers", 4, "unknown key 'n_layers'; did you mean n_layer?"),
        ("quantum", 4, "unknown key 'quantum'"),
        ("n_layer", 4.0, "'n_layer' expects a whole number, got 4.0"),
        ("n_layer", True, "'n_layer' expects a whole number, got True"),
        ("n_layer", None, "'n_layer' expects a whole number, got None"),
        ("lr", "1e-3", "'lr' expects a finite number, got '1e-3'"),
        ("lr", float("nan"), "'lr' expects a finite number, got nan"),
        ("grad_clip", "none", "'grad_clip' expects a finite number, or none, got 'none'"),
        ("name", 3, "'name' expects text, got 3"),
        ("out", None, "'out' expects a path, got None"),
        ("data", "a.txt", "'data' expects a list, each item a path, got 'a.txt'"),
        ("data", ["a.txt", 1], "'data' expects a list, each item a path, got ['a.txt', 1]"),
        ("decay", "linear", "'decay' expects one of cosine, none, got 'linear'"),
        ("resume", 1, "'resume' expects true or false, got 1"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_name(key, value, reason):
    content = json.dumps(json.loads(to_json(SHORT)) | {key: value})
    with pytest.raises(UsageError) as caught:
        from_json(Config, content, "runs/a/config.json")
    assert str(caught.value) == f"runs/a/config.json: {reason}"


def test_a_missing_key_is_refused_by_name():
    content = json.loads(to_json(SHORT))
    del content["lr"]
    with pytest.raises(UsageError, match=r"config\.json: the key 'lr' is missing"):
        from_json(Config, json.dumps(content))


@pytest.mark.parametrize("text, reason", [("{", "config.json is not JSON: "), ("[1]", "expects a JSON object, got")])
def test_what_is_no_json_object_is_refused(text, reason):
    with pytest.raises(UsageError, match=reason):
        from_json(Config, text)


# Types


odd_types = [dict, list[int], int | str, bool | None, tuple[int, int], tuple[bool, ...], tuple[int, ...] | None]


@pytest.mark.parametrize("hint", odd_types, ids=str)
def test_a_type_that_is_no_option_is_the_authors_mistake(hint):
    config = dataclass(frozen=True)(type("Odd", (), {"__annotations__": {"field": hint}, "field": None}))
    with pytest.raises(TypeError, match="a configuration cannot hold"):
        parse(config, [], {"only": config()}, "only", "odd", "")


# run


def test_run_hands_over_the_command_line(monkeypatch):
    got = []
    monkeypatch.setattr(sys, "argv", ["prog", "--lr", "1"])
    run(got.extend, "pretrain")
    assert got == ["--lr", "1"]


def test_run_leaves_other_exceptions_alone():
    def main(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(main, "pretrain")


def test_a_usage_error_is_one_line_and_exit_code_2():
    program = (
        "from gpt.options import *\ndef main(argv): raise UsageError('no such run: ' + argv[0])\nrun(main, 'chat')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "x"], cwd=Path(options.__file__).parents[1], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "chat: no such run: x\n")


_TALKS = (
    "from gpt.options import run\nrun(lambda argv: [print('x' * 99, flush={flush}) for _ in range({lines})], 'talk')"
)


@pytest.mark.parametrize("program", [
    ["-c", _TALKS.format(flush=False, lines=9999)], ["-c", _TALKS.format(flush=True, lines=9999)],
    ["-m", "tensorlite.check", "--op", "tanh"],
], ids=["buffered", "flushed", "check"])  # fmt: skip
def test_a_reader_that_stops_reading_ends_a_program_without_a_traceback(program):
    process = subprocess.Popen([sys.executable, *program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141
    process.stderr.close()


def test_a_broken_connection_is_no_broken_output():
    with pytest.raises(BrokenPipeError), reader_may_leave():
        raise BrokenPipeError


def test_the_first_word_chooses_a_command(capsys):
    got = []

    def train(argv):
        """Train it.

        At length.
        """
        got.extend(argv)

    commands = {"train": train, "look": print}
    command(["train", "--lr", "1"], commands, "gpt", "A GPT.")
    assert got == ["--lr", "1"]
    command(["--help"], commands, "gpt", "A GPT.")
    shown = capsys.readouterr().out
    assert "usage: gpt COMMAND" in shown and "A GPT." in shown and "\n  train  Train it.\n  look   " in shown
    for argv, message in (
        ([], "gpt: a command is missing; the commands are train, look\n"),
        (["trian"], "gpt: unknown command 'trian'; the commands are train, look; did you mean train?\n"),
    ):
        with pytest.raises(SystemExit) as stopped:
            command(argv, commands, "gpt", "A GPT.")
        assert stopped.value.code == 2 and capsys.readouterr().err == message


def test_words_without_a_flag_go_to_the_field_named_for_them():
    def asked(*argv):
        return parse(Asked, argv, {"ask": Asked()}, "ask", "ask", "Ask.", words="texts")

    assert asked("one", "--name", "x", "two words").texts == ("one", "two words")
    assert asked("--name", "x", "one", "--", "--name", "-5").texts == ("one", "--name", "-5")
    assert asked("--texts", "a", "b", "--", "c") == Asked(texts=("a", "b", "c"))


@dataclass(frozen=True)
class Asked:
    name: str = option("nobody", "who")
    texts: tuple[str, ...] = option((), "what")
