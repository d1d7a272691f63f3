"""The model: its size, its names and first values, then every number of a training step held against PyTorch."""

import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

import tensorlite as tl
from gpt.cache import Cache
from gpt.config import PRESETS, GPTConfig
from gpt.model import GPT
from tensorlite import nn, optim
from train.batching import pad

TINY = PRESETS["tiny"]
VARIANTS = {
    "gpt2": TINY,
    "book": replace(TINY, qkv_bias=False, tied=False),
    "nanogpt": replace(TINY, bias=False, n_layer=3),
    "untied": replace(TINY, tied=False, n_head=1, vocab_size=33),
}
each_variant = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)


def installed(package):
    return pytest.importorskip(package, reason=f"{package} is not installed: pip install 'tensorlite[oracle]'")


@pytest.fixture
def torch():
    return installed("torch")


def model_of(config, dtype=tl.float32, seed=0):
    """A model in which no bias is 0 and no scale is 1, so that each of them matters."""
    tl.manual_seed(seed)
    model = GPT(config).to(dtype)
    with tl.no_grad():
        for parameter in model.parameters():
            parameter.add_(tl.randn_like(parameter), alpha=0.1)
    return model


def batch_of(config, B=3, T=None, seed=0):
    """Random ids and targets, of which some do not count."""
    rng = np.random.default_rng(seed)
    idx, targets = rng.integers(0, config.vocab_size, (2, B, T or config.context_length))
    targets[0, :3] = -100
    return tl.from_numpy(idx), tl.from_numpy(targets)


def assert_close(ours, theirs, tolerance):
    """Equal up to `tolerance` of the largest number."""
    ours, theirs = ours.detach().numpy(), theirs.detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * abs(theirs).max())


# How many, and their names


@pytest.mark.parametrize(
    "preset, count",
    {
        "gpt2": 124_439_808,
        "gpt2-medium": 354_823_168,
        "gpt2-large": 774_030_080,
        "gpt2-xl": 1_557_611_200,
        "book-124m": 163_009_536,
        "shakespeare-char": 804_096,
        "shakespeare-char-gpu": 10_745_088,
    }.items(),
)
def test_the_published_numbers_of_parameters(preset, count):
    assert PRESETS[preset].parameters() == count


@each_variant
def test_the_formula_counts_the_parameters(config):
    model = GPT(config)
    assert model.num_parameters() == config.parameters()
    assert [(name, x.shape) for name, x in model.named_parameters()] == list(config.shapes().items())


def test_gpt2_itself():
    model = GPT(PRESETS["gpt2"])
    assert model.num_parameters() == 124_439_808
    assert model.num_parameters(non_embedding=True) == 124_439_808 - 1024 * 768
    shapes = {name: x.shape for name, x in model.named_parameters()}
    assert len(shapes) == 2 + 12 * 12 + 2 and shapes["wte.weight"] == (50257, 768)
    assert shapes["h.11.attn.c_attn.weight"] == (2304, 768) and shapes["h.11.mlp.c_proj.weight"] == (768, 3072)


def test_names_and_order_are_the_checkpoints():
    parts = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    block = [f"{part}.{kind}" for part in parts for kind in ("weight", "bias")]
    blocks = [f"h.{i}.{name}" for i in range(2) for name in block]
    names = ["wte.weight", "wpe.weight", *blocks, "ln_f.weight", "ln_f.bias"]
    assert [name for name, _ in GPT(TINY).named_parameters()] == names
    assert list(GPT(TINY).state_dict()) == [*names, "lm_head.weight"]


def test_biases_can_be_left_out():
    def biases(config):
        return {name for name, _ in GPT(config).named_parameters() if name.endswith("bias")}

    assert biases(VARIANTS["nanogpt"]) == set()
    assert biases(TINY) - biases(VARIANTS["book"]) == {"h.0.attn.c_attn.bias", "h.1.attn.c_attn.bias"}


def test_a_tied_head_is_the_embedding():
    tied, untied = GPT(TINY), GPT(replace(TINY, tied=False))
    assert tied.lm_head.weight is tied.wte.weight
    assert untied.lm_head.weight is not untied.wte.weight
    V, C, T = TINY.vocab_size, TINY.n_embd, TINY.context_length
    assert tied.num_parameters() - tied.num_parameters(non_embedding=True) == T * C
    assert untied.num_parameters() - untied.num_parameters(non_embedding=True) == (T + V) * C


def test_flops_per_token_are_palms():
    config = PRESETS["shakespeare-char"]
    assert GPT(config).flops_per_token() == 6 * (804_096 - 64 * 128) + 12 * 4 * 128 * 64


def test_only_matrices_decay():
    model = GPT(TINY)
    model.wpe.requires_grad_(False)
    matrices, vectors = model.parameter_groups(0.1)
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    assert {p.dim() for p in matrices["params"]} == {2} and {p.dim() for p in vectors["params"]} == {1}
    learned = sum(p.numel() for group in (matrices, vectors) for p in group["params"])
    assert learned == model.num_parameters() - model.wpe.weight.numel()


# What it starts with


def test_first_values():
    tl.manual_seed(0)
    model = GPT(replace(TINY, n_embd=128, n_layer=8))
    for name, x in model.named_parameters():
        numbers = x.detach().numpy()
        if name.endswith("bias"):
            assert not numbers.any()
        elif ".ln_" in name or name.startswith("ln_f"):
            assert (numbers == 1).all()
        else:
            std = 0.02 / 4 if "c_proj" in name else 0.02  # 8 blocks add 16 times to the stream
            assert abs(numbers.std() / std - 1) < 0.05 and abs(numbers.mean()) < 0.1 * std, name


def test_other_first_values():
    """init_std is that of the blocks' matrices alone, and None keeps PyTorch's first values, as the book does."""
    tl.manual_seed(0)
    wide = GPT(replace(TINY, n_embd=128, init_std=0.05))
    assert wide.h[0].attn.c_attn.weight.detach().numpy().std() == pytest.approx(0.05, rel=0.05)
    assert wide.wte.weight.detach().numpy().std() == pytest.approx(0.02, rel=0.05)
    book = GPT(replace(TINY, n_embd=128, init_std=None, tied=False))
    assert book.wte.weight.detach().numpy().std() == pytest.approx(1, rel=0.05)
    assert book.h[0].mlp.c_proj.weight.detach().numpy().std() == pytest.approx((1 / 512 / 3) ** 0.5, rel=0.05)


@pytest.mark.parametrize("preset", ["tiny", "shakespeare-char", "shakespeare-char-gpu"])
def test_an_untrained_model_knows_nothing(preset):
    config = PRESETS[preset]
    tl.manual_seed(0)
    loss = GPT(config).eval().loss(*batch_of(config, B=4))
    assert abs(loss.item() - math.log(config.vocab_size)) < 0.1


# What it computes


@each_variant
@pytest.mark.parametrize("dtype, tolerance", [(tl.float64, 1e-10), (tl.float32, 1e-4)])
@pytest.mark.parametrize("T", [16, 5])
def test_logits_loss_and_every_gradient_are_pytorchs(torch, config, dtype, tolerance, T):
    from torch_gpt import TorchGPT

    model = model_of(config, dtype)
    twin = TorchGPT(model)
    idx, targets = batch_of(config, T=T)
    logits, loss = model(idx, targets)
    their_logits, their_loss = twin(torch.tensor(idx.numpy()), torch.tensor(targets.numpy()))
    assert logits.dtype == dtype
    assert_close(logits, their_logits, tolerance)
    assert_close(loss, their_loss, tolerance)

    loss.backward()
    their_loss.backward()
    gradients = {name: parameter.grad for name, parameter in twin.named_parameters()}
    assert gradients.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        assert_close(parameter.grad, gradients[name], tolerance)


def test_twenty_steps_of_adamw_are_pytorchs(torch):
    from torch_gpt import TorchGPT

    config = VARIANTS["gpt2"]
    model = model_of(config, tl.float64)
    twin = TorchGPT(model)

    def schedule(step):  # up for 5 steps, then down to a tenth on half a cosine
        return (step + 1) / 6 if step < 5 else 0.1 + 0.45 * (1 + math.cos(math.pi * (step - 5) / 15))

    def losses(model, tensor, AdamW, LambdaLR, clip_grad_norm_):
        groups = [
            {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimizer = AdamW(groups, lr=1e-2, betas=(0.9, 0.95))
        scheduler = LambdaLR(optimizer, schedule)
        for step in range(20):
            loss = model.loss(*[tensor(ids.numpy()) for ids in batch_of(config, seed=step % 4)])
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            yield loss.item()

    ours = list(losses(model, tl.tensor, optim.AdamW, optim.lr_scheduler.LambdaLR, nn.utils.clip_grad_norm_))
    theirs = losses(
        twin, torch.tensor, torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR, torch.nn.utils.clip_grad_norm_
    )
    np.testing.assert_allclose(ours, list(theirs), rtol=0, atol=1e-8)
    assert ours[-1] < ours[0] - 0.5  # and it learns


@pytest.fixture
def transformers(torch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, on import
        return installed("transformers")


def test_the_logits_are_those_of_transformers_gpt2(torch, transformers):
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=65, n_positions=16, n_embd=16, n_layer=2, n_head=2, initializer_range=0.2)
    ).double()
    weights = {name.removeprefix("transformer."): x.detach() for name, x in theirs.state_dict().items()}
    conv1d = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # which keeps its weights as (in, out)
    model = GPT(TINY).double()
    model.load_state_dict({name: (x.T if name.endswith(conv1d) else x).numpy() for name, x in weights.items()})
    idx, _ = batch_of(TINY)
    with torch.no_grad():
        assert_close(model(idx, idx)[0], theirs.eval()(torch.tensor(idx.numpy())).logits, 1e-12)


def test_dropout_is_where_gpt2_has_it():
    model = GPT(replace(TINY, dropout=0.25))
    called = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda dropout, inputs, output, name=name: called.append((name, dropout.p)))
    model.loss(*batch_of(TINY))
    # of the embeddings, then of what attention and MLP add; attention drops weights too, see test_attention.py
    assert called == [(name, 0.25) for name in ("drop", "h.0.drop", "h.0.drop", "h.1.drop", "h.1.drop")]
    assert {block.attn.dropout for block in model.h} == {0.25}


def test_without_targets_only_the_last_logits():
    model = model_of(TINY, tl.float64)
    idx, targets = batch_of(TINY)
    logits, loss = model(idx)
    assert loss is None and logits.shape == (3, 1, TINY.vocab_size)
    assert_close(logits[:, 0], model(idx, targets)[0][:, -1], 1e-12)


def test_loss_is_what_forward_says():
    model = model_of(TINY)
    idx, targets = batch_of(TINY)
    assert model.loss(idx, targets).item() == model(idx, targets)[1].item()


def test_a_logit_depends_on_what_came_before_alone():
    model = model_of(TINY, tl.float64)
    idx, targets = batch_of(TINY)
    changed = idx.clone()
    changed[:, 9:] = (changed[:, 9:] + 1) % TINY.vocab_size
    before, after = model(idx, targets)[0], model(changed, targets)[0]
    assert_close(before[:, :9], after[:, :9], 1e-12)
    assert (before[:, 9:] != after[:, 9:]).any()


# Training


def fit(config, steps, lr=1e-2):
    """Train on one batch: the last loss and the weights."""
    tl.manual_seed(0)
    model = GPT(config)
    optimizer = optim.AdamW(model.parameter_groups(0.1), lr=lr)
    batch = batch_of(config)
    for _ in range(steps):
        loss = model.loss(*batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item(), {name: x.numpy() for name, x in model.state_dict().items()}


def test_one_batch_can_be_learned_by_heart():
    assert fit(replace(TINY, n_embd=32), steps=150)[0] < 0.01


def test_the_same_seed_gives_the_same_bits():
    config = replace(TINY, dropout=0.2)
    (first, weights), (second, again) = fit(config, steps=5), fit(config, steps=5)
    assert first == second
    assert all(np.array_equal(weights[name], again[name]) for name in weights)


# What it says to mistakes


def test_a_sequence_that_is_too_long():
    with pytest.raises(ValueError, match=r"context_length of 16, got \(1, 17\); idx\[:, -16:\] are the last that fit"):
        GPT(TINY)(tl.zeros(1, 17, dtype=tl.int64))


@pytest.mark.parametrize("shape", [(5,), (1, 0), (1, 2, 3)])
def test_ids_of_a_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"ids of shape \(B, T\)"):
        GPT(TINY)(tl.zeros(shape, dtype=tl.int64))


@pytest.mark.parametrize("id", [65, -1])
def test_an_id_outside_the_vocabulary(id):
    idx = tl.tensor([[3, id]])
    with pytest.raises(IndexError, match=f"token id {id} is outside the vocabulary of 65"):
        GPT(TINY)(idx)
    with pytest.raises(IndexError, match=f"target {id} is not one of the 65 classes"):
        GPT(TINY)(tl.tensor([[3, 4]]), idx)


# The configuration


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(n_embd=128, n_head=5), "128 has room for 4 or 8 heads, and 5 heads for a width of 125 or 130"),
        (dict(n_embd=7, n_head=2), "n_embd 7 cannot be divided among n_head 2; 7 has room for 1 or 7 heads"),
        (dict(n_embd=4, n_head=8), "4 has room for 4 heads, and 8 heads for a width of 8$"),
        (dict(n_layer=0), "n_layer expects a whole number from 1 on, got 0"),
        (dict(vocab_size=65.0), "vocab_size expects a whole number from 1 on, got 65.0"),
        (dict(n_head=True), "n_head expects a whole number from 1 on, got True"),
        (dict(bias=1), "bias expects True or False, got 1"),
        (dict(dropout=1.0), "dropout expects a probability from 0 to below 1, got 1.0"),
        (dict(dropout=math.nan), "dropout expects a probability from 0 to below 1, got nan"),
        (dict(dropout="0"), "dropout expects a probability from 0 to below 1, got '0'"),
        (dict(norm_eps=0.0), "norm_eps expects a small number above 0"),
    ],
)
def test_a_configuration_that_makes_no_model(changes, message):
    with pytest.raises(ValueError, match=message):
        GPTConfig(**changes)


@pytest.mark.parametrize("config", [*PRESETS.values(), *VARIANTS.values()])
def test_a_configuration_survives_json(config):
    assert GPTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_configuration_of_other_fields():
    values = {**TINY.to_dict(), "block_size": 64}
    del values["context_length"]
    with pytest.raises(ValueError, match=r"unknown here: \['block_size'\], missing: \['context_length'\]"):
        GPTConfig.from_dict(values)


def test_texts_end_to_end_are_read_as_if_alone():
    """In float64 the hidden vectors, the loss and every gradient are those of the same texts with padding."""
    tl.manual_seed(0)
    model = GPT(replace(PRESETS["tiny"], context_length=8, bias=True, qkv_bias=True)).to(tl.float64)
    lengths, size = [3, 8, 1, 5, 8], model.config.vocab_size
    texts = [tl.randint(0, size, (1, n)) for n in lengths]
    targets = [tl.randint(0, size, (1, n)) for n in lengths]
    packed = model.hidden(tl.cat(texts, dim=1), lengths=lengths)  # (1, 25, C), longer than the context
    for text, read in zip(texts, packed.split(lengths, dim=1)):
        np.testing.assert_allclose(read.detach().numpy(), model.hidden(text).detach().numpy(), rtol=0, atol=1e-12)
    model.loss(tl.cat(texts, dim=1), tl.cat(targets, dim=1), lengths).backward()
    found = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    model.zero_grad()
    ids, answers = (pad([x[0].numpy() for x in some], value) for some, value in ((texts, 0), (targets, -100)))
    model.loss(tl.from_numpy(ids), tl.from_numpy(answers)).backward()  # (5, 8)
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(found[name], parameter.grad.numpy(), rtol=0, atol=1e-12, err_msg=name)


def test_lengths_that_do_not_fit_are_refused():
    model = GPT(replace(PRESETS["tiny"], context_length=8))
    for shape, lengths in (((1, 9), [3, 5]), ((2, 4), [4]), ((1, 9), [9]), ((1, 3), [3, 0]), ((1, 1), [])):
        with pytest.raises(ValueError, match="expects texts of 1 to 8 tokens end to end in one row"):
            model.hidden(tl.zeros(shape, dtype=tl.int64), lengths=lengths)
    with tl.no_grad(), pytest.raises(ValueError, match="without a cache; leave out cache or lengths"):
        model.hidden(tl.zeros((1, 3), dtype=tl.int64), Cache(model, 1, 3), [3])
