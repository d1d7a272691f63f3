"""tensorlite: tensors and reverse-mode automatic differentiation on NumPy and CuPy, shaped like PyTorch.

    >>> import tensorlite as tl
    >>> x = tl.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4., 6.])

Where tensorlite has a thing it has PyTorch's name, argument order, default and behaviour.
"""

from importlib.util import find_spec as _find_spec
from math import e, inf, nan, pi

from . import cuda, data, nn, optim
from . import inplace as _inplace  # attaches the methods that end in _
from .autograd import grad
from .creation import *
from .device import device
from .dtype import bool_ as bool
from .dtype import (
    double,
    dtype,
    finfo,
    float16,
    float32,
    float64,
    get_default_dtype,
    half,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    long,
    promote_types,
    result_type,
    set_default_dtype,
    short,
    uint8,
    uint16,
    uint32,
)  # fmt: skip
from .dtype import fits as can_cast
from .dtype import float32 as float
from .dtype import int32 as int
from .memory import keep_freed_memory as _keep_freed_memory
from .mode import Hook, enable_grad, hooked, is_grad_enabled, no_grad, set_grad_enabled
from .op import OPS, Analytic, Mixed, Op, OpError, level, using
from .ops import *
from .parallel import get_num_threads, set_num_threads
from .random import (
    Generator,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)  # fmt: skip
from .sampling import *
from .serialize import load, save
from .tensor import Tensor

_keep_freed_memory()
if _find_spec("tensorlite.kernels"):  # without the folder everything runs, slower
    from . import kernels

numel, is_floating_point = Tensor.numel, Tensor.is_floating_point

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    raise AttributeError(
        f"tensorlite has no {name!r}: it has the part of PyTorch's surface that a GPT needs; "
        "tensorlite.OPS lists the ops"
    )
