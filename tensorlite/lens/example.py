"""A program as a learner writes it: two layers with batch normalisation between them, and cross-entropy, all by hand.

Karpathy's exercise "Becoming a backprop ninja" in small: of a name's last characters, which comes next?
"""

from __future__ import annotations

from typing import Any

import tensorlite as tl


def data() -> dict[str, Any]:
    """Four names of three letters each, and parameters; float64, so that every digit can be followed."""
    generator = tl.Generator().manual_seed(42)

    def randn(*shape: int, scale: float = 1.0) -> tl.Tensor:
        x = tl.randn(*shape, dtype=tl.float64, generator=generator) * scale
        return x.detach().requires_grad_()

    return {
        "ids": tl.tensor([[0, 1, 1], [1, 1, 2], [3, 0, 4], [0, 4, 2]]),  # (4, 3), characters
        "targets": tl.tensor([2, 4, 1, 3]),  # (4,)
        "C": randn(5, 2),  # the characters' vectors
        "W1": randn(6, 3, scale=0.7),
        "bngain": randn(1, 3, scale=0.1),
        "bnbias": randn(1, 3, scale=0.1),
        "W2": randn(3, 5, scale=0.6),
        "b2": randn(5, scale=0.1),
    }


def forward(ids: Any, targets: Any, C: Any, W1: Any, bngain: Any, bnbias: Any, W2: Any, b2: Any) -> Any:
    n = ids.shape[0]
    emb = C[ids]  # (4, 3, 2)
    embcat = emb.view(n, -1)  # (4, 6)
    hprebn = embcat @ W1  # (4, 3)
    bnmeani = hprebn.sum(0, keepdim=True) / n  # (1, 3)
    bndiff = hprebn - bnmeani  # (4, 3)
    bndiff2 = bndiff**2  # (4, 3)
    bnvar = bndiff2.sum(0, keepdim=True) / (n - 1)  # (1, 3)
    bnvar_inv = (bnvar + 1e-5) ** -0.5  # (1, 3)
    bnraw = bndiff * bnvar_inv  # (4, 3)
    hpreact = bngain * bnraw + bnbias  # (4, 3)
    h = hpreact.tanh()  # (4, 3)
    logits = h @ W2 + b2  # (4, 5)
    logit_maxes = logits.max(1, keepdim=True).values  # (4, 1)
    norm_logits = logits - logit_maxes  # (4, 5)
    counts = norm_logits.exp()  # (4, 5)
    counts_sum = counts.sum(1, keepdim=True)  # (4, 1)
    counts_sum_inv = counts_sum**-1  # (4, 1)
    probs = counts * counts_sum_inv  # (4, 5)
    logprobs = probs.log()  # (4, 5)
    loss = -logprobs[range(n), targets].mean()  # ()
    return loss
