"""Seeds and the states of generators."""

from __future__ import annotations

import pytest

import tensorlite as tl
from tensorlite.nn import functional as F


def test_same_seed_same_bits():
    def run() -> tuple[bytes, ...]:
        tl.manual_seed(3)
        x = tl.randn(4, 5, requires_grad=True)
        y = F.dropout(x, 0.3) * tl.rand(4, 5)
        y = F.scaled_dot_product_attention(y, y, y, dropout_p=0.2)
        (y**2).sum().backward()
        picks = tl.multinomial(tl.rand(6), 3)
        return tuple(t.array.tobytes() for t in (x, x.grad, y, tl.randperm(9), tl.randint(9, (4,)), picks))

    first = run()
    assert run() == first
    tl.manual_seed(4)
    assert tl.randn(4, 5).array.tobytes() != first[0]


def test_generator_state():
    generator = tl.Generator().manual_seed(5)
    tl.randn(3, generator=generator)
    state = generator.get_state()
    after = [
        tl.randn(7, generator=generator).tolist(),
        tl.randperm(5, generator=generator).tolist(),
        generator.draw_seed(),
    ]
    other = tl.Generator().set_state(tl.tensor(state.tolist(), dtype=tl.uint8))
    assert other.initial_seed() == 5
    assert [tl.randn(7, generator=other).tolist(), tl.randperm(5, generator=other).tolist(), other.draw_seed()] == after
    with pytest.raises(ValueError, match="set_state: this is not a state that get_state"):
        generator.set_state(tl.tensor([1, 2], dtype=tl.uint8))


def test_default_generator_state():
    state = tl.get_rng_state()
    first = tl.rand(3).tolist()
    tl.set_rng_state(state)
    assert tl.rand(3).tolist() == first
    assert tl.default_generator() is tl.default_generator("cpu") is tl.manual_seed(0)
