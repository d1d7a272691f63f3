"""tensorlite: tensors and reverse-mode automatic differentiation on NumPy and CuPy, shaped like PyTorch.

    >>> import tensorlite as tl
    >>> x = tl.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4., 6.])

Where tensorlite has a thing it has PyTorch's name, argument order, default and behaviour.
"""

import os as _os
import warnings as _warnings
from importlib.util import find_spec as _find_spec
from math import e, inf, nan, pi
from sys import modules as _modules

# After a product OpenBLAS's threads spin for 2^n cycles, by default 2^26, 25 ms, in which they take the cores from the
# threads of parallel.py. NumPy's OpenBLAS reads this when it is loaded, so it helps if NumPy was not imported before.
_os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")

from . import amp, autograd, backends, cuda, data, machine, nn, optim, utils
from . import dtype as _dtype_module
from . import inplace as _inplace  # attaches the methods that end in _
from . import missing as _missing
from .amp import autocast, get_autocast_dtype, is_autocast_enabled
from .autograd import grad
from .backends import get_float32_matmul_precision, set_float32_matmul_precision
from .creation import *
from .device import OutOfMemoryError, device
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
from .interchange import from_dlpack
from .levels import level, using
from .memory import keep_freed_memory as _keep_freed_memory
from .mode import (
    Hook,
    enable_grad,
    hooked,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from .op import OPS, Analytic, Mixed, Op, OpError
from .ops import *
from .parallel import get_num_threads, set_num_threads
from .printing import set_printoptions
from .profiler import profile
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

if _dtype_module.bfloat16 is not None:  # ml_dtypes is installed
    bfloat16 = _dtype_module.bfloat16

_keep_freed_memory()
# log(0) is -inf and 0/0 is nan, without a word, as in PyTorch. A filter costs an op nothing; np.errstate costs 1 us.
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"tensorlite\.")
if _find_spec("tensorlite.kernels"):  # without the folder everything runs, slower
    from . import kernels

numel, is_floating_point = Tensor.numel, Tensor.is_floating_point

__version__ = "0.1.0"


_missing.install(
    _modules[__name__], amp, autograd, autograd.functional, backends, cuda, data, nn, nn.functional, nn.init, nn.utils,
    optim, optim.lr_scheduler, utils, utils.checkpoint, utils.data,
)  # fmt: skip
