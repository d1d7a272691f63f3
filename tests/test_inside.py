"""A GPT looked into: attention weights, the logit lens, and the command that shows both."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import browse, needs_browser

import tensorlite as tl
from gpt import inside
from gpt.attention import CausalAttention
from gpt.checkpoint import save_model
from gpt.config import PRESETS
from gpt.model import GPT
from gpt.tokenizer import CharacterTokenizer
from tensorlite import lens
from tensorlite.nn import functional as F

TEXT = "to be, or not to be"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    tl.manual_seed(0)
    tokenizer = CharacterTokenizer.train(TEXT)
    (tmp_path / "checkpoints" / "step-1").mkdir(parents=True)
    model = GPT(replace(PRESETS["tiny"], vocab_size=tokenizer.vocab_size, dropout=0.3))
    save_model(model, tmp_path / "checkpoints" / "step-1" / "model.safetensors")
    tokenizer.save(tmp_path / "tokenizer.json")
    return tmp_path


def model_and_ids() -> tuple[GPT, tl.Tensor]:
    tl.manual_seed(0)
    return GPT(replace(PRESETS["tiny"], dropout=0.3)), tl.randint(0, 65, (2, 7))


def test_attention_weights_are_those_with_which_values_are_mixed():
    model, idx = model_and_ids()
    found = inside.attention_of(model, idx)
    c = model.config
    assert found.shape == (c.n_layer, 2, c.n_head, 7, 7) and model.training
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    assert (np.triu(found, 1) == 0).all()
    block = model.eval().h[0]
    x = block.ln_1(model.wte(idx) + model.wpe.weight[:7])
    heads = block.attn.c_attn(x).view(2, 7, 3 * c.n_head, -1)
    v = heads.split(c.n_head, dim=2)[2].transpose(1, 2)
    mixed = (tl.tensor(found[0]) @ v).transpose(1, 2).reshape(2, 7, -1)
    np.testing.assert_allclose(block.attn.c_proj(mixed).detach(), block.attn(x).detach(), atol=1e-5)


def test_attention_written_out_is_seen_too():
    stage = CausalAttention(6, 4, 5, 0.0)
    with lens.attention_maps() as maps:
        stage(tl.randn(2, 5, 6))
    (weights,) = maps.weights
    assert weights.shape == (2, 5, 5) and (np.triu(weights, 1) == 0).all()


def test_a_mask_and_keys_of_another_length():
    q, k = tl.randn(1, 2, 3, 4), tl.randn(1, 2, 5, 4)
    mask = tl.tensor([True, True, False, True, True])
    with lens.attention_maps() as maps:
        F.scaled_dot_product_attention(q, k, k, mask.expand(3, 5))
    assert maps.weights[0].shape == (1, 2, 3, 5) and (maps.weights[0][..., 2] == 0).all()


def test_the_last_row_of_the_logit_lens_is_what_the_model_says():
    model, idx = model_and_ids()
    found = inside.logit_lens(model, idx)
    assert found.shape == (model.config.n_layer + 1, 2, 7, 65)
    logits, _ = model.eval()(idx)
    np.testing.assert_allclose(found[-1, :, -1], F.softmax(logits[:, -1], dim=-1).detach(), rtol=1e-5)
    first = model.lm_head(model.ln_f(model.wte(idx) + model.wpe.weight[:7]))
    np.testing.assert_allclose(found[0], F.softmax(first, dim=-1).detach(), rtol=1e-5)
    assert not model.h[0]._hooks and not model.h[0]._pre_hooks


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "inside.html"
    inside.main(["--model", str(run), "--prompt", TEXT, "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("before block 0") and re.search(r"after block \d", lines[-2]) and "%" in lines[1]
    assert lines[-1] == f"wrote {out}" and "http" not in out.read_text()


@needs_browser
def test_its_page_in_a_browser(run: Path, tmp_path: Path):
    out = tmp_path / "inside.html"
    inside.main(["--model", str(run), "--prompt", TEXT, "--out", str(out)])
    with browse(out) as page:
        config = PRESETS["tiny"]
        assert page.js("document.querySelectorAll('canvas').length") == config.n_layer * config.n_head
        assert page.js("document.querySelectorAll('#lens tr').length") == config.n_layer + 2
        assert not page.errors and all(url.startswith("file://") for url in page.requests)


@pytest.mark.parametrize("arguments, words", [
    ([], "inside: --model is missing"),
    (["--model", "nowhere"], "inside: --model nowhere: there is no file or folder nowhere"),
])  # fmt: skip
def test_errors(fails, arguments: list[str], words: str):
    assert fails(inside.main, "inside", *arguments).startswith(words)


def test_a_prompt_that_the_tokenizer_does_not_know(run: Path, fails):
    assert "inside: " in fails(inside.main, "inside", "--model", run, "--prompt", "ß")
    assert "there is no token in it" in fails(inside.main, "inside", "--model", run, "--prompt", "")
