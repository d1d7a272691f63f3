"""LoRA: what it adds, what it leaves alone, and that merging is the same function."""

from dataclasses import replace

import numpy as np
import pytest

import tensorlite as tl
from gpt.checkpoint import load_model, save_model
from gpt.classifier import GPTClassifier, load_classifier, save_classifier
from gpt.config import PRESETS
from gpt.lora import LoRAConfig, LoRALinear, adapters, add_lora, load_lora, merge_lora, merged, save_lora, unmerge_lora
from gpt.model import GPT, parameter_groups
from tensorlite import nn

TINY = PRESETS["tiny"]
IDS = tl.tensor([[1, 5, 2, 9], [3, 3, 7, 0]])


def fresh(seed=0):
    tl.manual_seed(seed)
    return GPT(TINY)


def adapted(config=None):
    """A model whose adapters say something."""
    model = fresh()
    add_lora(model, config or LoRAConfig(rank=4, alpha=8))
    with tl.no_grad():
        for layer in adapters(model).values():
            nn.init.normal_(layer.lora_B, std=0.1)
    return model.eval()


def bits(model):
    return {name: x.numpy().tobytes() for name, x in model.state_dict().items() if "lora_" not in name}


def test_the_books_number_of_parameters():
    classifier = GPTClassifier(GPT(replace(PRESETS["gpt2"], vocab_size=1)), ["ham", "spam"])
    names = add_lora(classifier, LoRAConfig(rank=16, alpha=16))
    assert len(names) == 4 * 12 + 1
    assert sum(p.numel() for p in classifier.parameters() if p.requires_grad) == 2_666_528


def test_at_first_nothing_has_changed():
    expected = fresh()(IDS)[0].detach().numpy()
    model = fresh()
    add_lora(model, LoRAConfig(rank=2))
    np.testing.assert_array_equal(model(IDS)[0].detach().numpy(), expected)


def test_a_fused_layer_is_three_layers_side_by_side():
    tl.manual_seed(1)
    config, fused = LoRAConfig(rank=3, alpha=6), nn.Linear(8, 12)
    layer = LoRALinear(fused, config, parts=3)
    with tl.no_grad():
        nn.init.normal_(layer.lora_B)
    x = tl.randn(2, 5, 8)
    for i, part in enumerate(layer(x).chunk(3, dim=-1)):
        alone = nn.Linear(8, 4)
        with tl.no_grad():
            alone.weight.copy_(fused.weight[4 * i : 4 * i + 4])
            alone.bias.copy_(fused.bias[4 * i : 4 * i + 4])
        single = LoRALinear(alone, config)
        with tl.no_grad():
            single.lora_A.copy_(layer.lora_A[3 * i : 3 * i + 3])
            single.lora_B.copy_(layer.lora_B[i : i + 1])
        np.testing.assert_allclose(part.detach().numpy(), single(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_merged_is_the_same_function_and_unmerging_gives_the_bits_back():
    model = adapted()
    before, expected = bits(model), model(IDS)[0].detach().numpy()
    assert abs(expected - fresh()(IDS)[0].detach().numpy()).max() > 0.01
    merge_lora(model)
    np.testing.assert_allclose(model(IDS)[0].detach().numpy(), expected, rtol=0, atol=1e-5)
    assert bits(model) != before
    with pytest.raises(RuntimeError, match="merged LoRALinear does not learn; unmerge"):
        model.train()(IDS)
    with merged(model) as weights:
        assert weights.keys() == fresh().state_dict().keys()
    assert all(layer.merged for layer in adapters(model).values())  # as it was before
    unmerge_lora(model)
    assert bits(model) == before
    np.testing.assert_array_equal(model.eval()(IDS)[0].detach().numpy(), expected)


def test_training_moves_the_adapters_alone():
    model, before = fresh(), bits(fresh())
    add_lora(model, LoRAConfig(rank=4, dropout=0.1, layers=("*.c_attn", "h.1.mlp.*")))
    assert list(adapters(model)) == ["h.0.attn.c_attn", "h.1.attn.c_attn", "h.1.mlp.c_fc", "h.1.mlp.c_proj"]
    optimizer = tl.optim.AdamW(parameter_groups(model, 0.1), lr=3e-2)
    losses = []
    for _ in range(20):
        loss = model.loss(IDS[:, :-1], IDS[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2
    assert bits(model) == before


def test_a_file_holds_the_adapters_alone_and_a_saved_model_has_them_merged(tmp_path):
    config = LoRAConfig(rank=4, alpha=8)
    model = adapted(config)
    expected = model(IDS)[0].detach().numpy()
    save_lora(model, tmp_path / "adapter.safetensors", config)
    stored = tl.load(tmp_path / "adapter.safetensors")
    numbers = sum(x.numel() for name, x in stored.items() if name != "lora_config")
    assert numbers == sum(p.numel() for p in model.parameters() if p.requires_grad)
    other = fresh().eval()
    assert load_lora(other, tmp_path / "adapter.safetensors") == config
    np.testing.assert_array_equal(other(IDS)[0].detach().numpy(), expected)
    save_model(model, tmp_path / "model.safetensors")
    plain = load_model(tmp_path / "model.safetensors").eval()
    assert not adapters(plain)
    np.testing.assert_allclose(plain(IDS)[0].detach().numpy(), expected, rtol=0, atol=1e-5)


def test_mistakes(tmp_path):
    for values, message in (
        ({"rank": 0}, "rank expects a whole number from 1 on, got 0"),
        ({"alpha": 0.0}, "alpha expects a finite number above 0"),
        ({"dropout": 1.0}, "dropout expects a probability"),
    ):
        with pytest.raises(ValueError, match=message):
            LoRAConfig(**values)
    model = fresh()
    with pytest.raises(
        ValueError, match=r"no layer is named '\*\.W_query'; there are 8 Linear layers: h.0.attn.c_attn"
    ):
        add_lora(model, LoRAConfig(layers=("*.W_query",)))
    assert all(p.requires_grad for p in model.parameters())
    config = LoRAConfig(rank=2)
    add_lora(model, config)
    with pytest.raises(ValueError, match="has LoRA adapters already"):
        add_lora(model, config)
    save_lora(model, tmp_path / "a.safetensors", config)
    with pytest.raises(ValueError, match=r"lora_A expects the shape \(6, 32\), there is \(6, 16\); is it for another"):
        load_lora(GPT(replace(TINY, n_embd=32)), tmp_path / "a.safetensors")
    save_model(fresh(), tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="holds no LoRA adapters"):
        load_lora(fresh(), tmp_path / "m.safetensors")


# The classifier ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_padding_changes_nothing(pooling):
    model = GPTClassifier(fresh(), ["a", "b", "c"], pooling).eval()
    short = model(tl.tensor([[4, 5, 6]]), tl.tensor([3]))
    padded = model(tl.tensor([[4, 5, 6, 64, 64], [1, 2, 3, 4, 5]]), tl.tensor([3, 5]))
    assert padded.shape == (2, 3)
    np.testing.assert_allclose(padded[:1].detach().numpy(), short.detach().numpy(), rtol=0, atol=1e-6)


def test_a_classifier_keeps_its_classes(tmp_path):
    model = GPTClassifier(fresh(), ["ham", "spam"], "mean").eval()
    save_classifier(model, tmp_path / "model.safetensors")
    again = load_classifier(tmp_path / "model.safetensors").eval()
    assert (again.classes, again.pooling) == (("ham", "spam"), "mean")
    lengths = tl.tensor([4, 2])
    np.testing.assert_array_equal(again(IDS, lengths).detach().numpy(), model(IDS, lengths).detach().numpy())
    with pytest.raises(ValueError, match="holds a classifier, which writes no text"):
        load_model(tmp_path / "model.safetensors")
    save_model(fresh(), tmp_path / "gpt.safetensors")
    with pytest.raises(ValueError, match=r"holds no classifier; python -m train\.classify makes one"):
        load_classifier(tmp_path / "gpt.safetensors")
    for classes in (["ham"], ["ham", "ham"]):
        with pytest.raises(ValueError, match=r"two or more different classes"):
            GPTClassifier(fresh(), classes)
    with pytest.raises(ValueError, match="pooling expects 'last' or 'mean'"):
        GPTClassifier(fresh(), ["a", "b"], "first")
