"""Another peer: GPT-2 in JAX, the whole step compiled by XLA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpt.config import GPTConfig


def _init(c: GPTConfig) -> dict[str, Any]:
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape, np.float32) * 0.02)

    C = c.n_embd
    norm = {"weight": jnp.ones(C)} | ({"bias": jnp.zeros(C)} if c.bias else {})

    def linear(i, o, bias):
        return {"weight": normal(i, o)} | ({"bias": jnp.zeros(o)} if bias else {})

    def block():
        return {
            "ln_1": norm, "ln_2": norm, "c_attn": linear(C, 3 * C, c.qkv_bias), "c_proj": linear(C, C, c.bias),
            "c_fc": linear(C, 4 * C, c.bias), "mlp_proj": linear(4 * C, C, c.bias),
        }  # fmt: skip

    return {
        "wte": normal(c.vocab_size, C), "wpe": normal(c.context_length, C), "ln_f": norm,
        "h": [block() for _ in range(c.n_layer)],
    }  # fmt: skip


def _norm(p: dict, x: Any, eps: float) -> Any:
    y = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + eps) * p["weight"]
    return y + p["bias"] if "bias" in p else y


def _linear(p: dict, x: Any) -> Any:
    y = x @ p["weight"]
    return y + p["bias"] if "bias" in p else y


def _attend(q: Any, k: Any, v: Any) -> Any:
    return jax.nn.dot_product_attention(q, k, v, is_causal=True)  # (B, T, heads, width)


def _drop(x: Any, p: float, key: Any) -> Any:
    return x if not p else x * jax.random.bernoulli(key, 1 - p, x.shape) / (1 - p)


def _loss(p: dict, c: GPTConfig, idx: Any, targets: Any, key: Any) -> Any:
    B, T = idx.shape
    keys = iter(jax.random.split(key, 1 + 2 * c.n_layer))
    x = _drop(p["wte"][idx] + p["wpe"][:T], c.dropout, next(keys))
    for block in p["h"]:
        qkv = _linear(block["c_attn"], _norm(block["ln_1"], x, c.norm_eps)).reshape(B, T, 3, c.n_head, -1)
        y = _attend(*(qkv[:, :, i] for i in range(3))).reshape(B, T, -1)
        x = x + _drop(_linear(block["c_proj"], y), c.dropout, next(keys))
        h = jax.nn.gelu(_linear(block["c_fc"], _norm(block["ln_2"], x, c.norm_eps)), approximate=True)
        x = x + _drop(_linear(block["mlp_proj"], h), c.dropout, next(keys))
    logits = _norm(p["ln_f"], x, c.norm_eps) @ p["wte"].T
    picked = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return (jax.nn.logsumexp(logits, -1) - picked).mean()


def train_step(
    c: GPTConfig, x: np.ndarray, y: np.ndarray, lr: float, betas: tuple, decay: float, clip: float, optimize: bool
) -> Callable[[], Any]:
    p = jax.tree.map(jnp.copy, _init(c))  # a step overwrites its arguments, so none may be given twice

    def zeros():
        return jax.tree.map(jnp.zeros_like, p)

    state = [p, zeros(), zeros(), jnp.zeros((), jnp.int32)]
    x, y = jnp.asarray(x), jnp.asarray(y)

    def step(p: Any, m: Any, v: Any, t: Any) -> Any:
        loss, g = jax.value_and_grad(_loss)(p, c, x, y, jax.random.key(t))
        if not optimize:
            return loss, g
        norm = jnp.sqrt(sum(jnp.sum(a * a) for a in jax.tree.leaves(g)))
        g = jax.tree.map(lambda a: a * jnp.minimum(1, clip / (norm + 1e-6)), g)
        t = t + 1
        m = jax.tree.map(lambda m, g: betas[0] * m + (1 - betas[0]) * g, m, g)
        v = jax.tree.map(lambda v, g: betas[1] * v + (1 - betas[1]) * g * g, v, g)

        def move(p: Any, m: Any, v: Any) -> Any:
            p = p * (1 - lr * decay) if p.ndim >= 2 else p
            return p - lr * (m / (1 - betas[0] ** t)) / (jnp.sqrt(v / (1 - betas[1] ** t)) + 1e-8)

        return loss, (jax.tree.map(move, p, m, v), m, v, t)

    compiled = jax.jit(step, donate_argnums=(0, 1, 2) if optimize else ())

    def run() -> float:
        loss, new = compiled(*state)
        if optimize:
            state[:] = new
        jax.block_until_ready(new)
        return float(loss)

    return run


def attention_step(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> Callable[[], Any]:
    q, k, v = (jnp.asarray(x.swapaxes(1, 2)) for x in (q, k, v))  # (B, T, heads, width)
    gradients = jax.jit(jax.grad(lambda q, k, v: _attend(q, k, v).sum(), (0, 1, 2)))
    return lambda: jax.block_until_ready(gradients(q, k, v))
