"""transformers' GPT2LMHeadModel and the model here: logits, loss and every gradient, with random weights.

The first test needs neither: tests/data/gpt2-tiny is what transformers wrote and PyTorch computed (make_gpt2_tiny.py).
"""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_gpt import TINY

import tensorlite as tl
from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.weights import load, save_hub, save_llmc
from gpt.weights.source import IN_OUT

REFERENCE = Path(__file__).parent / "data" / "gpt2-tiny"
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


def assert_close(ours, theirs, tolerance, what):
    """Equal up to `tolerance` of the largest number."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * abs(theirs).max(), err_msg=what)


def assert_a_step_is_theirs(model, idx, targets, logits, loss, gradients, tolerance):
    """Logits, loss and gradients of `model` against theirs, which are under transformers' names."""
    ours, our_loss = model(tl.from_numpy(idx), tl.from_numpy(targets))
    our_loss.backward()
    assert_close(ours.numpy(force=True), logits, tolerance, "logits")
    assert abs(our_loss.item() - loss) <= tolerance * loss
    names = dict(model.named_parameters())
    assert {f"transformer.{name}" for name in names} == set(gradients)
    for name, parameter in names.items():
        theirs = gradients[f"transformer.{name}"]
        assert_close(parameter.grad.numpy(), theirs.T if name.endswith(IN_OUT) else theirs, tolerance, name)


@pytest.mark.parametrize("dtype, tolerance", TOLERANCE.items())
def test_what_pytorch_computed(dtype, tolerance):
    reference = dict(np.load(REFERENCE / "reference.npz"))
    gradients = {name.removeprefix("grad "): x for name, x in reference.items() if name.startswith("grad ")}
    model = load(REFERENCE, dtype=dtype)
    assert model.config.n_head == 2 and model.wte.weight.dtype == dtype and len(gradients) == 28
    named = {name: reference[name] for name in ("idx", "targets", "logits")}
    assert_a_step_is_theirs(model, **named, loss=float(reference["loss"]), gradients=gradients, tolerance=tolerance)


@pytest.fixture(scope="module")
def oracle():
    """(torch, transformers), in silence."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'tensorlite[oracle]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return torch, transformers


def batch(config, shape):
    rng = np.random.default_rng(0)
    idx, targets = rng.integers(0, config.vocab_size, (2, *shape))
    targets[0, :3] = -100
    return idx, targets


def their_step(oracle, model, idx, targets):
    torch, _ = oracle
    model.zero_grad()
    logits = model(torch.tensor(idx)).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten())
    loss.backward()
    gradients = {name: x.grad.numpy() for name, x in model.named_parameters()}
    return dict(logits=logits.detach().numpy(), loss=loss.item(), gradients=gradients)


def random_theirs(oracle, config, folder):
    """A GPT2LMHeadModel in which no bias is 0 and no scale 1, also as files in `folder`."""
    torch, transformers = oracle
    torch.manual_seed(0)
    sizes = dict(n_embd=config.n_embd, n_layer=config.n_layer, n_head=config.n_head)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=config.vocab_size, n_positions=config.context_length, **sizes)
    )
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    theirs.save_pretrained(folder)
    return theirs.eval()


@pytest.mark.parametrize("dtype, tolerance", TOLERANCE.items())
def test_a_file_of_theirs_computes_what_they_do(oracle, tmp_path, dtype, tolerance):
    theirs = random_theirs(oracle, TINY, tmp_path).to(getattr(oracle[0], dtype))
    idx, targets = batch(TINY, (3, 16))
    expected = their_step(oracle, theirs, idx, targets)
    assert_a_step_is_theirs(load(tmp_path, dtype=dtype), idx, targets, **expected, tolerance=tolerance)


@pytest.mark.slow
def test_all_of_gpt2_small(oracle, tmp_path):
    config = GPTConfig()
    theirs = random_theirs(oracle, config, tmp_path)
    idx, targets = batch(config, (1, 48))
    expected = their_step(oracle, theirs, idx, targets)
    model = GPT.from_pretrained(tmp_path)
    assert model.num_parameters() == 124_439_808
    assert_a_step_is_theirs(model, idx, targets, **expected, tolerance=1e-4)
    save_hub(model, tmp_path / "ours")
    again = oracle[1].GPT2LMHeadModel.from_pretrained(tmp_path / "ours")
    for (name, x), y in zip(again.named_parameters(), theirs.parameters()):
        assert oracle[0].equal(x, y), name


VARIANTS = {
    "gpt2": {},
    "an untied head": dict(tied=False),
    "a padded vocabulary": dict(vocab_size=64),
    "no biases": dict(bias=False),
    "the book": dict(tied=False, qkv_bias=False),
    "another epsilon": dict(norm_eps=1e-3, dropout=0.2),
}


@pytest.mark.parametrize("form", VARIANTS.values(), ids=VARIANTS)
def test_a_file_of_ours_computes_the_same_there(oracle, tmp_path, form):
    torch, transformers = oracle
    tl.manual_seed(0)
    model = GPT(replace(TINY, **form)).eval()
    with tl.no_grad():
        for parameter in model.parameters():
            parameter.add_(tl.randn_like(parameter), alpha=0.1)
    save_hub(model, tmp_path)
    theirs, notes = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(notes.get(kind) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), notes
    idx, _ = batch(TINY, (2, 16))
    with torch.no_grad(), tl.no_grad():
        expected = theirs.eval()(torch.tensor(idx)).logits.numpy()
        ours = model(tl.from_numpy(idx), tl.from_numpy(idx))[0].numpy()
    assert_close(ours, expected, 1e-5, "logits")
    assert theirs.config.resid_pdrop == model.config.dropout


def test_from_them_through_llmc_and_back(oracle, tmp_path):
    torch, transformers = oracle
    theirs = random_theirs(oracle, TINY, tmp_path / "theirs")
    save_llmc(load(tmp_path / "theirs"), tmp_path / "a.bin")
    save_hub(load(tmp_path / "a.bin"), tmp_path / "ours")
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "ours")
    for (name, x), y in zip(again.named_parameters(), theirs.parameters()):
        assert torch.equal(x, y), name
