"""The attention kernel in tiles: the same result whatever the cache, the threads and the size of the scores."""

import math

import numpy as np
import pytest

import tensorlite as tl
from tensorlite.kernels.cpu import attention
from tensorlite.nn.functional import scaled_dot_product_attention


def run(q, k, v, **options):
    """y and the gradients of q, k and v."""
    leaves = [tl.tensor(x).requires_grad_() for x in (q, k, v)]
    tl.manual_seed(4)
    y = scaled_dot_product_attention(*leaves, **options)
    (y * tl.arange(y.numel(), dtype=y.dtype).reshape(y.shape).cos()).sum().backward()
    return [y.detach().numpy(), *[leaf.grad.numpy() for leaf in leaves]]


@pytest.fixture(params=[1, 2])
def threads(request):
    before = tl.get_num_threads()
    tl.set_num_threads(request.param)
    yield
    tl.set_num_threads(before)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"is_causal": True, "dropout_p": 0.3}])
@pytest.mark.parametrize(("t", "s"), [(700, 700), (300, 150), (150, 300), (64, 64), (1, 200)])
@pytest.mark.parametrize("size", [1.0, 30.0])  # scores of 30 * 30 need their maximum subtracted
@pytest.mark.parametrize("level", [level for level in tl.levels.LEVELS if level in ("kernel", "compiled")])
def test_many_small_tiles_make_what_the_formula_makes(monkeypatch, threads, options, t, s, size, level):
    rng = np.random.default_rng(t + s)
    q, k, v = (rng.standard_normal((2, 3, n, 4)) for n in (t, s, s))
    monkeypatch.setattr(attention, "cache_bytes", lambda: 1 << 12)
    monkeypatch.setattr(attention, "SMALL", 0)
    rows, columns = attention._plan(q, k)[1:]
    assert len(list(attention._tiles(t, s, rows, columns, False))) > 1 or max(t, s) <= 200
    given = [x.astype(np.float32 if level == "compiled" else np.float64) for x in (size * q, size * k, v)]
    with tl.using(level):
        found = run(*given, **options)
    with tl.using("plain"):
        expected = run(*[x.astype(np.float64) for x in given], **options)
    tolerance = 1e-5 * size * max(abs(x).max() for x in expected) if level == "compiled" else 1e-9 * size**2
    for mine, right in zip(found, expected):
        np.testing.assert_allclose(mine, right, rtol=0, atol=tolerance)


def test_scores_too_large_for_an_exponential_are_exact():
    """All the weight is on the key that is the query: the others are e^-90000 of it."""
    x = 300 * np.eye(5, dtype=np.float32).reshape(1, 1, 5, 5)
    v = np.arange(5, dtype=np.float32).reshape(1, 1, 5, 1)
    y = scaled_dot_product_attention(*map(tl.tensor, (x, x, v)), scale=1.0)
    assert y.flatten().tolist() == [0, 1, 2, 3, 4]


def test_what_is_not_finite_stays_not_finite():
    x = tl.ones(1, 1, 3, 2)
    q = x.clone()
    q[0, 0, 1, 0] = math.nan
    y = scaled_dot_product_attention(q, x, x, is_causal=True)[0, 0]
    assert y[[0, 2]].tolist() == [[1, 1], [1, 1]]
    assert y[1].isnan().all()
