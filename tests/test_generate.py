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
from gpt.generate import evaluating, generate, pieces, sample, stream
from gpt.model import GPT
from gpt.tokenizer import CharacterTokenizer, GPT2Tokenizer, WordTokenizer
from tensorlite import nn

TINY = PRESETS["tiny"]
V = TINY.vocab_size


class Counting(nn.Module):
    """A model that is sure of one thing: after token i comes i + 1."""

    config = replace(TINY, vocab_size=10, context_length=4)

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, idx):
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


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [None, 3, 100])
def test_tokens_are_drawn_as_often_as_they_are_likely(temperature, top_k):
    logits = np.array([2.0, -1.0, 0.5, 1.0, 0.0])
    weights = np.exp(logits / temperature)
    if top_k == 3:
        weights[[1, 4]] = 0
    draws = sample(tl.tensor(logits).expand(20_000, 5), temperature, top_k, seeded())
    assert draws.shape == (20_000, 1)
    frequencies = np.bincount(draws.numpy()[:, 0], minlength=5) / 20_000
    np.testing.assert_allclose(frequencies, weights / weights.sum(), atol=0.02)  # five standard deviations
    assert (frequencies[weights == 0] == 0).all()


def test_top_k_means_k_also_among_equals():
    draws = sample(tl.zeros(1000, 5), top_k=2, generator=seeded())
    assert len(set(draws.numpy()[:, 0])) == 2


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
    generate(counting, tl.tensor([[0, 1, 2]]), 4, temperature=0)
    assert counting.seen == [[[0, 1, 2]], [[0, 1, 2, 3]], [[1, 2, 3, 4]], [[2, 3, 4, 5]]]


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
        (dict(eos_id=65), "eos_id expects an id of the vocabulary, from 0 to 64, got 65"),
    ],
)
def test_arguments_that_make_no_sense(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        stream(model, **{"idx": prompt(), "max_new_tokens": 1, **arguments})  # at once, not at the first token


# How it reads


@pytest.mark.parametrize("tokenizer", [CharacterTokenizer, WordTokenizer])
def test_pieces_are_the_text(tokenizer):
    tokenizer = tokenizer.train(text := "Oh, no! Is it \ufffd, then? It is.")
    ids = tokenizer.encode(text)
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


def test_half_a_character_waits_for_the_rest(gpt2_vocabulary):
    tokenizer = GPT2Tokenizer()
    ids = tokenizer.encode("a 😀!")
    assert list(pieces(tokenizer, ids)) == ["a", " ", "😀", "!"] and len(ids) == 4
    assert "".join(pieces(tokenizer, ids[:2])) == tokenizer.decode(ids[:2])  # unless there is no rest


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
    argv = ["--run", str(trained), "--prompt", "abba", "--max-new-tokens", "30"]
    text = wrote(capsys, *argv)
    assert text.startswith("abba") and len(text) == len("abba") + 30 + 1 and text.endswith("\n")
    assert wrote(capsys, *argv) == text
    assert wrote(capsys, *argv, "--seed", "7") != text
    assert wrote(capsys, *argv, "--preset", "greedy") == wrote(capsys, *argv, "--top-k", "1")


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
    assert wrote(capsys, "--run", str(tmp_path), "--prompt", "so it", "--temperature", "0") == "so it\n"


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--prompt", "abé"], "cannot encode 'é' (U+00E9) at position 2"),
        (["--prompt", ""], "--prompt: there is no token in it"),
        (["--temperature", "-1"], "temperature expects a finite number from 0 on, got -1.0"),
        (["--top-k", "0"], "top_k expects a number from 1 on"),
        (["--max-new-tokens", "-5"], "max_new_tokens expects a number from 0 on"),
        (["--device", "abacus"], "'abacus' is not a device"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(trained, argv, message, refused):
    assert message in refused("--run", trained, *argv)


def test_a_run_that_is_not_there(trained, tmp_path, refused):
    assert "--run is missing" in refused()
    assert "there is no folder" in refused("--run", tmp_path / "none")
    assert "has no model yet" in refused("--run", tmp_path)
    shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints")
    assert "tokenizer.json" in refused("--run", tmp_path)


def test_as_a_program(trained):
    command = [sys.executable, "-m", "gpt.generate", "--run", str(trained), "--max-new-tokens", "3"]
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
    said = refused("--run", folder, "--prompt", chr(299))
    assert "tokenizer.json has 100 tokens and the model 65" in said
