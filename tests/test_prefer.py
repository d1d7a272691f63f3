"""Preference tuning: the loss held against differences and PyTorch's, the reference, and runs."""

import json
import math
from functools import partial

import numpy as np
import pytest

import tensorlite as tl
from gpt.checkpoint import latest_weights, load_model
from gpt.config import PRESETS
from gpt.model import GPT
from gpt.options import from_json
from tensorlite import check
from train import instruct, prefer
from train.collate import collate
from train.preference import log_probabilities, preference_loss

SMALL = "--n-layer 1 --n-head 2 --n-embd 16 --context-length 64 --batch-size 4 --warmup 2 --eval-every 5".split()


def write_pairs(path):
    """What is chosen ends politely."""
    things = [(a, b) for a in "red green blue grey".split() for b in "cat dog cow hen fox".split()]
    entries = [
        {"instruction": f"Say {a} {b} .", "input": "", "output": f"{a} {b} please", "chosen": f"{a} {b} please",
         "rejected": f"{a} {b} now"}
        for a, b in things
    ]  # fmt: skip
    for entry in entries[::2]:
        entry["output"] = entry["rejected"]
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def data(tmp_path):
    return write_pairs(tmp_path / "data.json")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    flags = "--tokenizer words --epochs 2 --lr 0.01 --responses 0".split()
    data = write_pairs(folder / "data.json")
    instruct.main([*SMALL, *flags, "--data", str(data), "--out", str(folder / "run")])
    return folder / "run"


@pytest.fixture
def train(start, data, tmp_path, capsys):
    def run(out, *flags):
        both = "--batch-size 4 --epochs 4 --lr 0.003 --eval-every 10 --warmup 1".split()
        prefer.main([*both, "--start", str(start), "--data", str(data), "--out", str(tmp_path / out), *flags])
        return tmp_path / out, capsys.readouterr().out

    return run


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"kind": "ipo", "beta": 0.5}])
def test_the_loss_has_the_slopes_of_differences(options):
    tl.manual_seed(0)
    chosen, rejected = tl.randn(5, dtype=tl.float64), tl.randn(5, dtype=tl.float64)
    check.gradients(lambda c, r: preference_loss(c, r, **options), (chosen, rejected))


@pytest.mark.parametrize("kind, smoothing", [("dpo", 0.0), ("dpo", 0.1), ("ipo", 0.0)])
def test_loss_and_gradients_are_those_of_pytorch(kind, smoothing):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'tensorlite[oracle]'")
    rng = np.random.default_rng(0)
    logits, reference = rng.normal(size=(2, 4, 6, 9)).astype(np.float32)  # (4, 6, 9): two chosen, then two rejected
    targets = rng.integers(0, 9, (4, 6))
    targets[:, :2] = targets[1:3, 5:] = -100

    def answer(x):
        safe = torch.tensor(targets).clamp(min=0)[..., None]
        return (x.log_softmax(-1).gather(2, safe)[..., 0] * torch.tensor(targets != -100)).sum(1)

    policy = torch.tensor(logits, requires_grad=True)
    h = answer(policy) - answer(torch.tensor(reference))
    h = h[:2] - h[2:]
    right, wrong = torch.log(torch.sigmoid(0.5 * h)), torch.log(torch.sigmoid(-0.5 * h))
    theirs = (h - 1 / (2 * 0.5)) ** 2 if kind == "ipo" else -(1 - smoothing) * right - smoothing * wrong
    theirs.mean().backward()

    class Head:  # a model that says the logits
        def __init__(self, x):
            self.x = x
            self.lm_head = tl.nn.Linear(9, 9, bias=False)
            with tl.no_grad():
                self.lm_head.weight.copy_(tl.eye(9))

        def hidden(self, idx, cache):
            return self.x

    ours = tl.tensor(logits, requires_grad=True)
    gained = log_probabilities(Head(ours), None, tl.from_numpy(targets))
    gained = gained - log_probabilities(Head(tl.tensor(reference)), None, tl.from_numpy(targets))
    loss = preference_loss(gained[:2], gained[2:], 0.5, smoothing, kind)
    loss.backward()
    assert loss.item() == pytest.approx(theirs.mean().item(), rel=1e-6, abs=1e-6)
    np.testing.assert_allclose(ours.grad.numpy(), policy.grad.numpy(), rtol=0, atol=1e-6)


def test_an_answer_is_as_likely_as_its_tokens_together():
    tl.manual_seed(0)
    model = GPT(PRESETS["tiny"])
    ids = tl.tensor([[3, 5, 7, 2]])
    targets = tl.tensor([[-100, 7, 2, 9]])
    logits = model(ids, targets)[0].log_softmax(-1)[0]
    expected = sum(logits[i, t].item() for i, t in ((1, 7), (2, 2), (3, 9)))
    assert log_probabilities(model, ids, targets).item() == pytest.approx(expected, abs=1e-5)
    assert log_probabilities(model, ids, targets, average=True).item() == pytest.approx(expected / 3, abs=1e-5)


def test_a_run_starts_at_ln_2_and_learns_what_is_preferred(train):
    run, printed = train("a")
    lines = [m for m in metrics(run) if m.get("val_loss") is not None]
    assert lines[0]["val_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert lines[0]["val_margin"] == pytest.approx(0, abs=1e-5)
    assert lines[-1]["val_loss"] < 0.6
    assert lines[-1]["val_margin"] > 0.2
    assert lines[-1]["val_accuracy"] == 1
    assert lines[-1]["val_margin"] == pytest.approx(
        lines[-1]["val_chosen_reward"] - lines[-1]["val_rejected_reward"], abs=1e-4
    )
    for name in ("loss.png", "rewards.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    assert "accuracy 1.0000" in printed


@pytest.mark.parametrize("flags", [[], ["--train", "lora", "--lora-rank", "2"], ["--loss", "ipo"]])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(train, flags):
    """Also because the reference is kept: the model that it was computed with is gone."""
    whole, _ = train("whole", "--schedule", "constant", "--steps", "7", *flags)
    part, _ = train("part", "--schedule", "constant", "--steps", "4", *flags)
    prefer.main(["--resume", str(part), "--steps", "7"])
    a, b = (load_model(latest_weights(run)).state_dict() for run in (whole, part))
    assert all(np.array_equal(a[name].numpy(), b[name].numpy()) for name in a)


def test_the_reference_is_the_start(train, start):
    run, _ = train("a", "--steps", "1")
    known = tl.load(run / "reference.safetensors")["log_probabilities"].numpy()
    config = from_json(prefer.Config, (run / "config.json").read_text())
    model, tokenizer = prefer.start(config, [])
    pairs = prefer.encoded(prefer.read_pairs(config.data), tokenizer, config, 64)
    ids, targets = collate([pairs[3][1]], tokenizer.eot_id, mask_prompt=True)
    assert known.shape == (20, 2)
    assert log_probabilities(model.eval(), ids, targets).item() == pytest.approx(known[3, 1], abs=1e-4)


def test_bad_input_is_one_line_that_says_what_to_do(tmp_path, data, start, fails):
    refused = partial(fails, prefer.main, "prefer")
    ok = ["--data", data, "--start", start, "--out", tmp_path / "out"]
    assert "--data is missing" in refused()
    assert "--start is missing: name a run of train.instruct" in refused("--data", data)
    assert "--beta is above 0, not 0.0" in refused(*ok, "--beta", "0")
    assert "--label-smoothing is at least 0 and below 0.5, not 0.5" in refused(*ok, "--label-smoothing", "0.5")
    entries = json.loads(data.read_text())
    data.write_text(json.dumps([*entries[:3], {"instruction": "a", "chosen": "b"}]))
    assert "entry 4: expected the keys instruction, rejected and if need be input, with text; found" in refused(*ok)
    data.write_text(json.dumps([{**entries[0], "chosen": "red " * 80}]))
    assert "entry 1: 108 tokens are more than the model's context of 64; leave this entry out" in refused(*ok)
    assert not (tmp_path / "out").exists()
