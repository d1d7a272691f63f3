"""A small GPT for tests of its files."""

from dataclasses import replace

import tensorlite as tl
from gpt.config import PRESETS
from gpt.model import GPT

TINY = replace(PRESETS["tiny"], vocab_size=50)


def model_of(config=TINY, dtype=tl.float32):
    """A model in which no bias is 0 and no scale is 1, so that each of them matters."""
    tl.manual_seed(0)
    model = GPT(config).to(dtype)
    with tl.no_grad():
        for parameter in model.parameters():
            parameter.add_(tl.randn_like(parameter), alpha=0.1)
    return model


def decided(config):
    """A model in float64 with weights ten times as large as they start, so that it prefers some tokens to others."""
    tl.manual_seed(0)
    model = GPT(config).double()
    with tl.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10)
    return model
