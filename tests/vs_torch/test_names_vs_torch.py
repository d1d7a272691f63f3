"""Every public name of PyTorch is there, or says that it is not and what to use."""

from __future__ import annotations

import pytest
from compare import torch

import tensorlite as tl

PLACES = {
    "torch": (torch, tl),
    "Tensor": (torch.Tensor, tl.Tensor),
    "a Tensor": (torch.ones(2, 2), tl.ones(2, 2)),
    "nn": (torch.nn, tl.nn),
    "nn.functional": (torch.nn.functional, tl.nn.functional),
    "nn.init": (torch.nn.init, tl.nn.init),
    "optim": (torch.optim, tl.optim),
    "utils": (torch.utils, tl.utils),
    "cuda": (torch.cuda, tl.cuda),
    "autograd": (torch.autograd, tl.autograd),
}


@pytest.mark.parametrize("place", PLACES)
def test_names(place: str):
    theirs, ours = PLACES[place]
    for name in dir(theirs):
        if not name.startswith("_") and not hasattr(ours, name):
            with pytest.raises(AttributeError, match=f"has no {name!r}: "):
                getattr(ours, name)
