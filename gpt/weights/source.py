"""What every format of weights comes down to: arrays under the model's names, and what the file says of the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gpt.config import GPTConfig
from gpt.model import GPT
from tensorlite.stored import Stored


@dataclass
class Source:
    """Weights that were found and not yet read.

    format    of which kind they are, in words
    arrays    under the model's names; what is no part of a model keeps the name that it has in the file
    said      fields of GPTConfig, as far as the file or one beside it says them
    config    all of it, where it says all
    ignored   names in the file that are no weights, and are passed over
    verify    reads everything once to hold it against checksums, where the format has them; ValueError
    """

    format: str
    arrays: dict[str, Stored]
    said: dict[str, Any] = field(default_factory=dict)
    config: GPTConfig | None = None
    ignored: list[str] = field(default_factory=list)
    verify: Callable[[], None] = lambda: None


# The matrices that GPT-2's own checkpoint keeps as (in, out), for x @ W; a Linear keeps them as (out, in).
IN_OUT = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def with_biases(model: GPT) -> Mapping[str, np.ndarray]:
    """The model's numbers by name and in its order, with zeros for biases that it has not."""
    full = replace(model.config, bias=True, qkv_bias=True).shapes()
    weights = {name: x.numpy(force=True) for name, x in model.state_dict().items()}
    dtype = weights["wte.weight"].dtype
    return {name: weights[name] if name in weights else np.zeros(shape, dtype) for name, shape in full.items()}
