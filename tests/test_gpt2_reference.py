"""The comparison with what is published of GPT-2: complete with any weights, and true with GPT-2's own."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import tensorlite as tl
from gpt.config import GPTConfig
from gpt.model import GPT
from gpt.tokenizer import GPT2Tokenizer
from gpt.weights import load, save_hub
from gpt.weights.download import cached
from train import evaluate
from train.corpus import Windows
from train.gpt2_reference import GREEDY, LLMC, Row, llmc_steps, llmc_tokens, mean_loss, report

SMALL = GPTConfig(n_layer=1, n_embd=8, n_head=2)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model with GPT-2's vocabulary and nothing learned, in the hub's form."""
    folder = tmp_path_factory.mktemp("small")
    tl.manual_seed(0)
    save_hub(GPT(replace(SMALL, init_std=0.5)), folder)
    return folder


@pytest.mark.usefixtures("gpt2_vocabulary")
def test_every_figure_is_compared_and_random_weights_are_found_out(small, data_dir, tmp_path, capsys, monkeypatch):
    np.random.default_rng(0).integers(0, 50257, 5000).astype("<u2").tofile(tmp_path / "val.bin")
    argv = ["--source", small, "--data", data_dir, "--openwebtext", tmp_path / "val.bin", "--windows", "2"]
    with pytest.raises(Exception, match=r"^21 of 21 figures differ: these are not GPT-2's weights"):
        evaluate.main(["gpt2-reference", *map(str, argv)])
    printed = capsys.readouterr().out
    assert f"{small}: {SMALL.parameters():,} parameters" in printed
    assert printed.count("DIFFERS") == 21 and "not compared" not in printed
    assert "llm.c, training loss of step 10" in printed and "wte[0][2]" in printed
    assert all(repr(text) in printed for text in GREEDY.values())


@pytest.mark.usefixtures("gpt2_vocabulary")
def test_what_is_not_there_is_said(small, fails, tmp_path):
    model, tokenizer = load(small), GPT2Tokenizer()
    before = model.wte.weight.tolist()[0]
    rows = list(report(model, tokenizer, tmp_path))
    notes = [str(row) for row in rows if row.ours is None]
    assert len(notes) == 2 + len(LLMC) + 1 and model.wte.weight.tolist()[0] == before and model.training
    assert "the-verdict.txt is not in the folder of --data" in notes[0] and "nanoGPT's data" in notes[-1]
    refused = partial(fails, evaluate.main, "evaluate", "gpt2-reference")
    assert "--windows expects a number from 1 on, got 0" in refused("--windows", 0)
    assert "there is no file or folder" in refused("--source", tmp_path / "none")
    save_hub(GPT(replace(SMALL, vocab_size=60)), tmp_path)
    assert "its vocabulary of 60 is not GPT-2's, 50,257 tokens" in refused("--source", tmp_path, "--data", tmp_path)
    (tmp_path / "short.bin").write_bytes(b"ab" * 10)
    with pytest.raises(Exception, match=r"has 10 tokens, and a window needs 1,025"):
        list(report(model, tokenizer, None, tmp_path / "short.bin"))
    with pytest.raises(Exception, match=r"--openwebtext .*none.bin: .*No such file"):
        list(report(model, tokenizer, None, tmp_path / "none.bin"))


def test_a_row_says_how_far_it_is():
    assert Row("loss", 3.5, 3.5004, 1e-3).agrees() and not Row("loss", 3.5, 3.502, 1e-3).agrees()
    assert not Row("loss", 3.5, float("nan"), 1e-3).agrees() and not Row("loss", 3.5).agrees()
    assert str(Row("loss", 3.5, 3.502, 1e-3)).split() == ["loss", "3.5", "3.502", "+2.00e-03", "DIFFERS"]
    assert str(Row("after 'a'", " b", " c")).splitlines()[2:] == ["      ours       ' c'", "      DIFFERS"]


@pytest.mark.usefixtures("gpt2_vocabulary")
def test_llmcs_tokens(data_dir):
    tokenizer = GPT2Tokenizer()
    tokens = llmc_tokens("a b\n\nc", tokenizer, 5)
    assert tokens == [50256, *tokenizer.encode("a b\n\n"), 50256]
    assert llmc_tokens("a b\n\nc", tokenizer, 6) == [50256, *tokenizer.encode("a b\n\n"), 50256, *tokenizer.encode("c")]
    with pytest.raises(Exception, match="the text of 6 tokens is too short; 7 are needed"):
        llmc_tokens("a b\n\nc", tokenizer, 7)


@pytest.mark.usefixtures("gpt2_vocabulary")
def test_ten_steps_are_pytorchs(small, data_dir):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'tensorlite[oracle]'")
    from torch_gpt import TorchGPT

    model, tokenizer = load(small), GPT2Tokenizer()
    rows = list(llmc_steps(model, tokenizer, data_dir))
    theirs = TorchGPT(model)
    text = (data_dir / "tinyshakespeare.txt").read_text()
    ids = torch.tensor(llmc_tokens(text, tokenizer, 257))
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0)
    for row in rows:
        loss = theirs.loss(ids[:-1].view(4, 64), ids[1:].view(4, 64))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        assert row.ours == pytest.approx(loss.item(), rel=1e-5)
    assert len(rows) == 10 and rows[-1].ours < rows[0].ours


def test_the_mean_loss_is_that_of_all_tokens(small):
    model = load(small)
    tokens = np.random.default_rng(0).integers(0, 50257, 41).astype(np.uint16)
    ids = tl.from_numpy(tokens.astype(np.int64))
    expected = model(ids[:-1].view(4, 10), ids[1:].view(4, 10))[1].item()
    assert mean_loss(model, Windows(tokens, 10, 10)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.weights
@pytest.mark.usefixtures("gpt2_vocabulary")
def test_gpt2s_own_weights_compute_what_is_published(data_dir):
    source = os.environ.get("TENSORLITE_GPT2") or cached("gpt2")
    if source is None:
        pytest.skip(
            "GPT-2's weights are not here: python -m gpt.weights download, or set TENSORLITE_GPT2 to their path"
        )
    rows = list(report(load(Path(source)), GPT2Tokenizer(), data_dir))
    assert not [str(row) for row in rows if row.ours is not None and not row.agrees()]
    assert sum(row.ours is not None for row in rows) == 20
