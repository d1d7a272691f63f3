"""A plan says what a run takes: the memory of a step as the engine has it, and what does not fit."""

import tracemalloc
from dataclasses import replace

import pytest

import tensorlite as tl
from gpt.config import PRESETS, GPTConfig
from gpt.model import GPT, MLP
from tensorlite.nn.utils import clip_grad_norm_
from train import footprint as footprints
from train import pace, plan
from train.footprint import footprint
from train.loop import make_optimizer
from train.pace import Cost, Pace
from train.plan import main
from train.recipe import Recipe
from train.saving import Saver

SMALL = GPTConfig(vocab_size=500, context_length=64, n_layer=3, n_head=4, n_embd=64)
WORDS = replace(SMALL, vocab_size=10_000, n_layer=2)
CASES = {
    "activations": (SMALL, 16, 1, "kernel"),
    "dropout": (replace(SMALL, dropout=0.1), 16, 1, "kernel"),
    "no biases": (replace(SMALL, bias=False), 16, 1, "kernel"),
    "weights": (replace(SMALL, n_embd=192), 1, 1, "kernel"),
    "logits": (WORDS, 8, 1, "kernel"),
    "embedding": (WORDS, 1, 1, "kernel"),
    "untied": (replace(WORDS, tied=False), 1, 1, "kernel"),
    "accumulated": (replace(SMALL, n_embd=192), 2, 3, "kernel"),
    "accumulated embedding": (WORDS, 1, 2, "kernel"),
    "without kernels": (SMALL, 8, 1, "plain"),
    "scores without kernels": (replace(SMALL, context_length=256, dropout=0.1), 2, 1, "plain"),
    "logits without kernels": (WORDS, 4, 1, "plain"),
}


def peak(config, batch, accumulation, level):
    """Bytes that NumPy and Python have taken at most in a second step."""
    ids = tl.zeros(batch, config.context_length, dtype=tl.int64)
    tracemalloc.start()
    try:
        model = GPT(config)
        optimizer = make_optimizer(model, Recipe())
        with tl.using(level):
            for _ in range(2):
                tracemalloc.reset_peak()
                for _ in range(accumulation):
                    (model.loss(ids, ids) / accumulation).backward()
                clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("case", CASES)
def test_the_memory_of_a_step_is_what_it_takes(case):
    config, batch, accumulation, level = CASES[case]
    found = footprint(config, batch, accumulation, "cpu" if level == "kernel" else "cuda")
    assert found.peak == pytest.approx(peak(*CASES[case]), rel=0.04 if level == "kernel" else 0.15)


def test_what_a_layer_keeps_is_read_off_the_layer(monkeypatch):
    before = footprint(SMALL, 16)
    monkeypatch.setattr(MLP, "forward", lambda self, x: self.c_proj(self.gelu(self.gelu(self.c_fc(x)))))
    footprints._step.cache_clear()
    after = footprint(SMALL, 16)
    monkeypatch.undo()
    footprints._step.cache_clear()
    wide = 4 * 16 * 64 * 4 * 64  # bytes of a (B, T, 4C) array
    assert (
        after.activations - before.activations == 2 * wide * SMALL.n_layer
    )  # of the second GELU: its input, its slope
    assert footprint(SMALL, 16) == before


def test_how_the_scores_of_attention_grow_is_seen():
    grows = {level: footprints._step(SMALL, False, level).powers[:, 1].max() for level in ("kernel", "reference")}
    assert grows == {"kernel": 1, "reference": 2}


def test_the_copy_is_what_a_checkpoint_takes(tmp_path):
    model = GPT(SMALL)
    optimizer = make_optimizer(model, Recipe())
    model.loss(*[tl.zeros(1, 64, dtype=tl.int64)] * 2).backward()
    optimizer.step()
    optimizer.zero_grad()
    saver = Saver(tmp_path, model, lambda model, folder: None, keep=1)
    tracemalloc.start()
    try:
        saver.save("step-000001", {"optimizer": optimizer.state_dict()})
        saver.wait()
        copied = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert footprint(SMALL, 1).copy == pytest.approx(copied, rel=0.1)


def test_planning_draws_no_random_numbers():
    tl.manual_seed(0)
    expected = tl.randn(3).tolist()
    tl.manual_seed(0)
    footprint(replace(SMALL, dropout=0.3), 2, device="cuda")
    pace.measure(PRESETS["tiny"], 2)
    assert tl.randn(3).tolist() == expected


def test_a_step_is_its_blocks_and_the_rest():
    rhythm = Pace(block=Cost(batch=3, update=1), rest=Cost(batch=5, update=2))
    assert rhythm.step(n_layer=4) == 4 * 3 + 5 + 4 * 1 + 2
    assert rhythm.step(n_layer=4, accumulation=10) == 10 * (4 * 3 + 5) + 4 * 1 + 2
    measured = pace.measure(PRESETS["tiny"], 2)
    assert measured.block.batch > 0 and measured.block.update > 0


def test_a_large_model(capsys, monkeypatch):
    monkeypatch.setattr("tensorlite.machine.resident_memory", lambda: 50 << 20)  # not what other tests left
    main(["--model", "gpt2", "--batch", "4", "--memory", "4.5GB", "--peak-flops", "1e12", "--checkpoint-every", "none"])
    said = capsys.readouterr().out
    assert "124,439,808 parameters: 12 blocks, 12 heads, 768 wide, context 1,024, 50,257 different tokens" in said
    assert "step     4,096 tokens: 1 micro-batch of 4 x 1,024 tokens" in said
    assert "optimal  2.49e+09 tokens, 20 for each parameter (Hoffmann et al., 2022): 607,617 steps" in said
    assert "weights 475 MiB, gradients 475 MiB, optimiser 949 MiB" in said
    assert [line.split()[:3] for line in said.splitlines() if line.endswith(("%", "fit"))] == [
        ["4", "x", "1"], ["2", "x", "2"], ["1", "x", "4"]
    ]  # fmt: skip
    assert "the same step where it fits: --batch-size 2 --accumulation 2" in said
    tokens_per_second = 1e12 / PRESETS["gpt2"].flops_per_token()
    assert f"{tokens_per_second:,.0f} tokens/s" in said and "at least 35.0 min for 600 steps" in said
    assert f"at least {20 * 124_439_808 / tokens_per_second / 86400:.1f} days for a compute-optimal run" in said


def test_a_preset_with_changes_is_timed_here(capsys, monkeypatch):
    monkeypatch.setattr(pace, "ENOUGH", 0)
    main(["--n-layer", "1", "--n-embd", "16", "--batch", "2", "8", "--dropout", "0.1"])
    said = capsys.readouterr().out
    assert "1 blocks, 4 heads, 16 wide, context 128" in said and "8 x 128 tokens" in said
    assert "as a block and a head were timed here" in said and "at least" not in said


def test_a_model_that_does_not_fit(capsys):
    main(["--model", "gpt2", "--n-layer", "1", "--batch", "1", "--memory", "1GiB", "--no-measure-speed"])
    said = capsys.readouterr().out
    assert "does not fit" in said and "not even one sequence fits; take a smaller model" in said
    assert "at least" in said and "100% of" in said


def test_checkpoints_on_the_way_and_the_peak_take_memory():
    row = footprint(SMALL, 1)
    on_the_way, at_the_end = (plan.asked(["--checkpoint-every", every, "--no-measure-peak"]) for every in ("9", "none"))
    assert plan.total(row, on_the_way, 5) == 5 + row.peak + row.copy
    assert plan.total(row, at_the_end, 5) == 5 + max(row.peak, row.weights + row.optimizer + row.copy)
    assert plan.total(row, replace(at_the_end, device="cuda"), 5) == row.peak
    assert plan.total(row, plan.asked([]), 0) > 2**27  # products and copies at the start


def test_what_cannot_be_planned(fails):
    assert "--model gpt3: there is no such model; the models are gpt2, " in fails(main, "plan", "--model", "gpt3")
    assert "--batch is at least 1, not 0" in fails(main, "plan", "--batch", "4", "0")
    assert "--memory is a size, 24GB or 24GiB say, not 'much'" in fails(main, "plan", "--memory", "much")
    assert "--share-of-peak lies above 0, up to 1, and 1.5 does not" in fails(main, "plan", "--share-of-peak", "1.5")
    assert "--peak-flops is above 0, not -1.0" in fails(main, "plan", "--peak-flops", "-1")


@pytest.mark.skipif(tl.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_here(fails, capsys):
    said = fails(main, "plan", "--device", "cuda")
    assert "--device cuda: there is no GPU here to measure; say what yours has: --memory 80GB --peak-flops" in said
    main([*"--device cuda --memory 80GB --peak-flops 67e12 --share-of-peak 0.5 --n-layer 2".split()])
    said = capsys.readouterr().out
    assert "50% of 67,000 GFLOP/s" in said and "in the machine's memory" in said and "at least" not in said
