"""Generation: which token comes next, when it ends, how it reads; then a model's file and the command line."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import tensorlite as tl
from gpt import generate as script
from gpt.checkpoint import latest_weights, load_model, save_model
from gpt.config import PRESETS
from gpt.generate import generate, stream
from gpt.model import GPT
from gpt.sequences import evaluating
from gpt.tokenizer import CharacterTokenizer, WordTokenizer

TINY = PRESETS["tiny"]
V = TINY.vocab_size


class Counting(GPT):
    """A model that is sure of one thing: after token i comes i + 1."""

    def __init__(self):
        super().__init__(replace(TINY, vocab_size=10, context_length=4))
        self.seen = []

    def forward(self, idx, targets=None, cache=None):
        self.seen.append(idx.tolist())
        logits = np.full((len(idx), 1, 10), -1e9, np.float32)
        logits[np.arange(len(idx)), 0, (idx.numpy()[:, -1] + 1) % 10] = 0
        return tl.from_numpy(logits), None


@pytest.fixture
def model():
    tl.manual_seed(0)
    model = GPT(replace(TINY, dropout=0.5))
    with tl.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10)  # else every token is as likely as any other
    return model


def prompt(B=2, T=3):
    return tl.from_numpy(np.random.default_rng(0).integers(0, V, (B, T)))


def seeded(seed=0):
    return tl.Generator().manual_seed(seed)


# Which token


def test_greedy_takes_the_likeliest_each_time(model):
    out = generate(model, prompt(), 20, temperature=0)
    expected = prompt()
    model.eval()
    for _ in range(20):
        logits, _ = model(expected[:, -TINY.context_length :])
        expected = tl.cat([expected, logits.argmax(-1)], dim=1)
    assert out.tolist() == expected.tolist() and out.shape == (2, 23) and out.dtype == tl.int64
    assert not out.requires_grad


def test_the_one_likeliest_is_greedy_at_any_temperature(model):
    greedy = generate(model, prompt(), 20, temperature=0)
    assert generate(model, prompt(), 20, temperature=5.0, top_k=1).tolist() == greedy.tolist()
    assert generate(model, prompt(), 20, temperature=1e-4).tolist() == greedy.tolist()


def test_the_generator_decides(model):
    first, again, other = (generate(model, prompt(), 20, generator=seeded(s)).tolist() for s in (1, 1, 2))
    assert first == again != other


def test_a_generator_of_its_own_leaves_the_default_one_alone(model):
    before = tl.get_rng_state().tolist()
    generate(model, prompt(), 5, generator=seeded())
    assert tl.get_rng_state().tolist() == before
    generate(model, prompt(), 5)
    assert tl.get_rng_state().tolist() != before


def test_each_row_has_a_seed_of_its_own(model):
    alone = [generate(model, prompt()[i : i + 1], 20, seeds=[i + 5])[0].tolist() for i in range(2)]
    assert generate(model, prompt(), 20, seeds=[5, 6]).tolist() == alone
    assert generate(model, prompt()[[1, 0, 1]], 20, seeds=[6, 5, 7]).tolist()[:2] == alone[::-1]


def test_with_a_penalty_nothing_comes_twice(model):
    out = generate(model, prompt(), 12, temperature=0, repetition_penalty=1e6).tolist()
    assert all(len(set(row)) == len(set(row[:3])) + 12 for row in out)


# How long


def test_eos_ends_a_row_and_the_last_one_the_generation():
    out = generate(Counting(), tl.tensor([[2], [5], [3]]), 100, temperature=0, eos_id=7)
    assert out.tolist() == [[2, 3, 4, 5, 6, 7], [5, 6, 7, 7, 7, 7], [3, 4, 5, 6, 7, 7]]


def test_an_eos_in_the_prompt_ends_nothing():
    assert generate(Counting(), tl.tensor([[7, 8]]), 3, temperature=0, eos_id=7).tolist() == [[7, 8, 9, 0, 1]]


def test_without_eos_it_is_max_new_tokens():
    assert generate(Counting(), tl.tensor([[7]]), 5, temperature=0).tolist() == [[7, 8, 9, 0, 1, 2]]
    assert generate(Counting(), tl.tensor([[7]]), 0).tolist() == [[7]]


def test_the_model_sees_the_last_tokens_of_its_context():
    counting = Counting()
    generate(counting, tl.tensor([[0, 1, 2]]), 4, temperature=0, use_cache=False)
    assert counting.seen == [[[0, 1, 2]], [[0, 1, 2, 3]], [[1, 2, 3, 4]], [[2, 3, 4, 5]]]


def test_with_a_cache_it_sees_only_what_is_new_until_the_context_slides():
    counting = Counting()
    generate(counting, tl.tensor([[0, 1]]), 5, temperature=0)
    assert counting.seen == [[[0, 1]], [[2]], [[3]], [[1, 2, 3, 4]], [[2, 3, 4, 5]]]


def test_it_stops_where_the_context_is_full(model):
    T = TINY.context_length
    out = generate(model, prompt(), 100, temperature=0, when_full="stop")
    assert out.shape == (2, T + 1)  # the last token is read by nobody
    assert out.tolist() == generate(model, prompt(), 100, temperature=0)[:, : T + 1].tolist()


def test_a_row_that_has_ended_is_computed_no_longer():
    counting = Counting()
    generate(counting, tl.tensor([[2], [5]]), 100, temperature=0, eos_id=7, use_cache=False)
    assert [len(rows) for rows in counting.seen] == [2, 2, 1, 1, 1]


def test_tokens_stream_as_they_are_drawn():
    counting = Counting()
    tokens = stream(counting, tl.tensor([[0], [4]]), 3, temperature=0)
    assert counting.seen == []
    assert next(tokens).tolist() == [[1], [5]] and len(counting.seen) == 1
    assert [token.tolist() for token in tokens] == [[[2], [6]], [[3], [7]]]


def test_while_it_evaluates_nothing_is_dropped_or_recorded(model):
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not model(prompt())[0].requires_grad


def test_dropout_is_off_and_the_mode_comes_back(model):
    for training in (True, False):
        model.train(training)
        first, second = (generate(model, prompt(), 10, temperature=0).tolist() for _ in range(2))
        assert first == second
        assert {module.training for module in model.modules()} == {training}
        assert tl.is_grad_enabled()


def test_the_mode_comes_back_after_an_error(model):
    with pytest.raises(IndexError, match="token id 65 is outside the vocabulary of 65"):
        generate(model, tl.tensor([[V]]), 1)
    assert model.training and tl.is_grad_enabled()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(idx=tl.tensor([1, 2])), r"shape \(B, T\), at least one in each row, got \(2,\)"),
        (dict(idx=tl.zeros(1, 0).long()), r"got \(1, 0\)"),
        (dict(max_new_tokens=-1), "max_new_tokens expects a number from 0 on, got -1"),
        (dict(temperature=-0.5), "temperature expects a finite number from 0 on, got -0.5"),
        (dict(temperature=float("nan")), "temperature expects a finite number from 0 on, got nan"),
        (dict(top_k=0), "top_k expects a number from 1 on, or None to draw among all tokens, got 0"),
        (dict(top_p=0.0), "top_p expects a probability above 0 and up to 1, or None, got 0.0"),
        (dict(top_p=1.5), "top_p expects a probability"),
        (dict(min_p=-0.1), "min_p expects a share from 0 to 1, or None, got -0.1"),
        (dict(repetition_penalty=0.0), "repetition_penalty expects a finite number above 0, and 1 for none, got 0.0"),
        (dict(seeds=[1]), "seeds expects one for each of the 2 rows, got 1"),
        (dict(when_full="grow"), "when_full expects 'slide' or 'stop', got 'grow'"),
        (dict(idx=prompt(1, 17), when_full="stop"), "a prompt has 17 tokens and the model's context_length is 16"),
        (dict(eos_id=65), "eos_id expects an id of the vocabulary, from 0 to 64, got 65"),
    ],
)
def test_arguments_that_make_no_sense(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        stream(model, **{"idx": prompt(), "max_new_tokens": 1, **arguments})  # at once, not at the first token


# A model's file


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [tl.float32, tl.float64])
def test_a_saved_model_comes_back_bit_by_bit(tmp_path, tied, dtype):
    model = GPT(replace(TINY, tied=tied)).to(dtype)
    save_model(model, path := tmp_path / "model.safetensors")
    loaded = load_model(path)
    assert loaded.config == model.config and loaded.training
    assert (loaded.lm_head.weight is loaded.wte.weight) == tied
    for name, x in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == dtype
        assert np.array_equal(loaded.state_dict()[name].numpy(), x.numpy())
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_has_gpt2s_names_and_the_configuration(tmp_path):
    save_model(model := GPT(TINY), tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
        assert set(file.keys()) == {name for name, _ in model.named_parameters()}
        assert json.dumps(TINY.to_dict()) in "".join(file.metadata().values())


def test_weights_that_do_not_fit_are_all_listed(tmp_path):
    model, path = GPT(TINY), tmp_path / "model.safetensors"
    model.config = replace(TINY, n_layer=3, vocab_size=64)
    save_model(model, path)
    with pytest.raises(ValueError, match=r"cannot be loaded(.|\n)*h\.2\.ln_1\.weight(.|\n)*wte\.weight: \(65, 16\)"):
        load_model(path)


def test_files_that_hold_no_model(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load_model(path)
    save_file({"wte.weight": np.zeros((2, 2))}, path)
    with pytest.raises(ValueError, match="does not say what model it holds: there is no 'model_config'"):
        load_model(path)
    save_model(GPT(TINY), path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"model\.safetensors is broken"):
        load_model(path)


def test_the_latest_weights_are_those_of_the_largest_step(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none; python -m train\.pretrain makes one"):
        latest_weights(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"has no model yet.*python -m train\.pretrain saves them"):
        latest_weights(tmp_path)
    for step in ("step-000900", "step-999999", "step-1000000", ".step-2000000.part", "step-best"):
        (tmp_path / "checkpoints" / step).mkdir(parents=True)
        (tmp_path / "checkpoints" / step / "model.safetensors").touch()
    (tmp_path / "checkpoints" / "step-3000000").mkdir()  # has no model
    assert latest_weights(tmp_path) == tmp_path / "checkpoints" / "step-1000000" / "model.safetensors"


# The command line


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run's folder, as far as generation reads it."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    weights = folder / "checkpoints" / "step-000010" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    tokenizer = CharacterTokenizer.train("\n abcdefghij")
    tokenizer.save(folder / "tokenizer.json")
    tl.manual_seed(0)
    save_model(GPT(replace(TINY, vocab_size=tokenizer.vocab_size)), weights)
    return folder


def wrote(capsys, *argv):
    script.main(argv)
    return capsys.readouterr().out


@pytest.fixture
def refused(fails):
    """refused(*argv): the one line that a wrong command line prints."""
    return partial(fails, script.main, "generate")


def test_a_run_writes_on(capsys, trained):
    argv = ["--model", str(trained), "--prompt", "abba", "--max-new-tokens", "30"]
    text = wrote(capsys, *argv)
    assert text.startswith("abba") and len(text) == len("abba") + 30 + 1 and text.endswith("\n")
    assert wrote(capsys, *argv) == text
    assert wrote(capsys, *argv, "--seed", "7") != text
    assert wrote(capsys, *argv, "--preset", "greedy") == wrote(capsys, *argv, "--top-k", "1")


def test_several_texts_each_under_a_title(capsys, trained):
    argv = ["--model", str(trained), "--max-new-tokens", "9"]
    text = wrote(capsys, *argv, "--prompt", "ab", "c", "--samples", "2", "--seed", "4")
    alone = [wrote(capsys, *argv, "--prompt", p, "--seed", s)[:-1] for p in ("ab", "c") for s in ("4", "5")]
    titles = [f"--- {p!r}, seed {s} ---\n" for p in ("ab", "c") for s in (4, 5)]
    assert text == "\n\n".join(title + one for title, one in zip(titles, alone)) + "\n"


def test_the_tokens_and_their_log_probabilities(capsys, trained):
    argv = ["--model", str(trained), "--prompt", "ab", "--max-new-tokens", "5", "--preset", "greedy"]
    first, *lines = wrote(capsys, *argv, "--logprobs").splitlines()
    assert first == "ab" and len(lines) == 5
    assert "ab" + "".join(eval(line.split(maxsplit=1)[1]) for line in lines) == wrote(capsys, *argv)[:-1]
    assert all(-10 < float(line.split()[0]) < 0 for line in lines)


def test_it_stops_before_a_text(capsys, trained):
    argv = ["--model", str(trained), "--prompt", "ab", "--max-new-tokens", "40"]
    whole = wrote(capsys, *argv)[:-1]
    stop = whole[10:13]
    assert wrote(capsys, *argv, "--stop", stop) == whole[: whole.index(stop, 2)] + "\n"


def test_the_cache_changes_nothing_but_the_speed(capsys, trained):
    argv = ["--model", str(trained), "--prompt", "abba", "--max-new-tokens", "30"]
    assert wrote(capsys, *argv, "--no-cache") == wrote(capsys, *argv)


def test_a_full_context_is_said(capsys, trained):
    script.main(["--model", str(trained), "--prompt", "abba", "--max-new-tokens", "30", "--when-full", "stop"])
    printed = capsys.readouterr()
    assert len(printed.out) == TINY.context_length + 1 + 1
    assert "the context of 16 tokens is full after 13 new ones; --when-full slide goes on" in printed.err


def test_beams(capsys, trained):
    text = wrote(capsys, "--model", str(trained), "--prompt", "ab", "--max-new-tokens", "5", "--beams", "3")
    titles = [line for line in text.split("\n") if line.startswith("--- ")]
    assert [t.split(",")[1] for t in titles] == [" place 1", " place 2", " place 3"]
    scores = [float(t.split("score ")[1].split(",")[0]) for t in titles]
    assert scores == sorted(scores, reverse=True)


def test_end_of_text_ends_the_text(capsys, tmp_path):
    tokenizer = WordTokenizer.train("so it ends")
    tokenizer.save(tmp_path / "tokenizer.json")
    model = GPT(replace(TINY, vocab_size=tokenizer.vocab_size, tied=False))
    with tl.no_grad():
        model.ln_f.weight.zero_()
        model.ln_f.bias.fill_(1)
        model.lm_head.weight[tokenizer.eot_id] += 1  # so that it always comes next
    (tmp_path / "checkpoints" / "step-1").mkdir(parents=True)
    save_model(model, tmp_path / "checkpoints" / "step-1" / "model.safetensors")
    assert wrote(capsys, "--model", str(tmp_path), "--prompt", "so it", "--temperature", "0") == "so it\n"


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--prompt", "abé"], "cannot encode 'é' (U+00E9) at position 2"),
        (["--prompt", ""], "the prompt: there is no token in it"),
        (["--temperature", "-1"], "temperature expects a finite number from 0 on, got -1.0"),
        (["--top-k", "0"], "top_k expects a number from 1 on"),
        (["--max-new-tokens", "-5"], "max_new_tokens expects a number from 0 on"),
        (["--device", "abacus"], "'abacus' is not a device"),
        (["--samples", "0"], "--samples expects a number from 1 on, got 0"),
        (["--beams", "2", "--samples", "2"], "--beams finds the same text each time"),
        (["--beams", "2", "--logprobs"], "--beams judges whole sequences"),
        (["--beams", "0"], "--beams expects a number from 1 on, or none, got 0"),
        (["--stop", ""], "an empty stop string stands everywhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(trained, argv, message, refused):
    assert message in refused("--model", trained, *argv)


def test_a_run_that_is_not_there(trained, tmp_path, refused):
    assert "--model is missing" in refused()
    assert "there is no file or folder" in refused("--model", tmp_path / "none")
    assert "holds no weights that can be read here" in refused("--model", tmp_path)
    shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints")
    assert "tokenizer.json" in refused("--model", tmp_path)


def test_as_a_program(trained):
    command = [sys.executable, "-m", "gpt.generate", "--model", str(trained), "--max-new-tokens", "3"]
    root = Path(__file__).parents[1]
    done = subprocess.run([*command, "--prompt", "ab"], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stderr, len(done.stdout)) == (0, "", 6)
    failed = subprocess.run([*command, "--prompt", "xyz"], capture_output=True, text=True, cwd=root)
    assert (failed.returncode, failed.stdout) == (2, "") and failed.stderr.startswith("generate: ")


def test_a_tokenizer_with_more_tokens_than_the_model_is_one_line(tmp_path, refused):
    folder = tmp_path / "run"
    (folder / "checkpoints" / "step-000001").mkdir(parents=True)
    save_model(GPT(PRESETS["tiny"]), folder / "checkpoints" / "step-000001" / "model.safetensors")
    CharacterTokenizer.train("".join(map(chr, range(200, 300)))).save(folder / "tokenizer.json")
    said = refused("--model", folder, "--prompt", chr(299))
    assert "its tokenizer has 100 tokens and the model 65" in said
