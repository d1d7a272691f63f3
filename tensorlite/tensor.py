"""Tensor: an array, its gradient, and a pointer to the node that made it.

The class holds the data and says what it is. What a Tensor can *do* (add, matmul, backward ...) is
attached to it, with `@method`, by the file that defines it: `Tensor.sum` stands in ops/reduction.py, once,
as the function `tensorlite.sum` and as the method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .capture import refuse
from .device import device, device_of, move, on
from .dtype import get_default_dtype, is_floating, kind

if TYPE_CHECKING:
    from .node import Node

F = TypeVar("F", bound=Callable)
_new = object.__new__


class Version:
    """Counts the in-place writes into one piece of memory, for all Tensors that share it.

    A node that keeps an array for its backward also keeps the count; if they differ later, the array
    is not what the forward saw, and backward raises instead of computing a wrong gradient.
    """

    count = 0
    shared = False  # whether a view of the memory was ever taken


class Tensor:
    """An n-dimensional array that remembers how it was computed.

    array          the numbers: a numpy.ndarray (or cupy.ndarray)
    grad           d(loss)/d(this), a Tensor of the same shape, set by backward(); None before; leaves only
    requires_grad  whether backward() shall compute it
    node           the Node (node.py) whose output this is; None for a leaf
    """

    array: Any
    # Defaults on the class, so that making a Tensor sets three attributes, not eight.
    _grad: Tensor | None = None
    node: Node | None = None
    index: int = 0  # which output of the node this is
    version: Version | None = None
    hooks: list[Callable] | None = None  # called with the gradient; a leaf's (those of others are its node's)
    grad_hooks: list[Callable] | None = None  # called with this leaf when its .grad has been added to
    retains_grad: bool = False  # whether an interior Tensor keeps its gradient, too
    _requires_grad: bool = False

    __array_ufunc__ = None  # numpy_array * tensor is a Tensor's business, not NumPy's
    parents = indices = ()  # a leaf is where the backward walk ends

    def __init__(self, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False):
        self.array = _as_array(data, dtype, device)
        self.requires_grad = requires_grad

    @staticmethod
    def _of(array: Any, node: Node | None = None) -> Tensor:
        """A Tensor around `array` itself, without the checks and copies of the constructor."""
        out = _new(Tensor)
        out.array = array
        if node is not None:
            out.node = node
            out._requires_grad = True
        return out

    # What it is ------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and not is_floating(self.array.dtype):
            raise RuntimeError(
                f"requires_grad: only floating-point Tensors can have a gradient, and this one is {self.array.dtype}; "
                "convert it with .float() first"
            )
        if not value and self.node is not None:
            raise RuntimeError(
                f"requires_grad: this Tensor is the result of {self.node.op.name}, so it requires a gradient as its "
                "inputs do; use .detach() for a Tensor cut off from the graph"
            )
        self._requires_grad = bool(value)

    @property
    def grad(self) -> Tensor | None:
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"grad: expected a Tensor or None, not {type(value).__name__}")
            theirs, ours = [(x.array.shape, x.array.dtype, device_of(x.array)) for x in (value, self)]
            if theirs != ours:
                raise RuntimeError(
                    "grad: a gradient has the shape, dtype and device of its Tensor, which are "
                    f"{ours[0]}, {ours[1]} and {ours[2]}; this one has {theirs[0]}, {theirs[1]} and {theirs[2]}"
                )
        self._grad = value

    @property
    def is_leaf(self) -> bool:
        return self.node is None

    @property
    def grad_fn(self) -> Node | None:
        """The node that made this Tensor (PyTorch's name for `node`)."""
        return self.node

    @property
    def output_nr(self) -> int:
        """Which output of its node it is."""
        return self.index

    @property
    def _version(self) -> int:
        """How often its memory was written in place."""
        return self.version.count if self.version else 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def device(self) -> device:
        return device_of(self.array)

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    @property
    def itemsize(self) -> int:
        return self.array.itemsize

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of one dimension."""
        return self.array.shape if dim is None else self.array.shape[dim]

    def dim(self) -> int:
        return self.array.ndim

    def numel(self) -> int:
        return self.array.size

    nelement = numel

    def element_size(self) -> int:
        return self.array.itemsize

    def is_floating_point(self) -> bool:
        return is_floating(self.array.dtype)

    def is_contiguous(self) -> bool:
        return bool(self.array.flags.c_contiguous)

    def __len__(self) -> int:
        if not self.array.ndim:
            raise TypeError("len() of a 0-dimensional Tensor; use .item() for its value")
        return len(self.array)

    # In and out ------------------------------------------------------------------------------------

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """The numbers as a NumPy array that shares this Tensor's memory. Writes into it are not tracked.

        Raises RuntimeError if the Tensor requires a gradient, TypeError if it lies on a GPU; force=True detaches it,
        and copies it from there.
        """
        if force:
            return move(self.array, "cpu")
        if self._requires_grad:
            raise RuntimeError("numpy: this Tensor requires a gradient, which NumPy would lose; use .detach().numpy()")
        if not isinstance(self.array, np.ndarray):
            raise TypeError(f"numpy: this Tensor lies on {self.device}; use .cpu().numpy()")
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        return array if dtype is None and not copy else np.array(array, dtype=dtype, copy=copy)

    def item(self) -> Any:
        """The value of a Tensor with one element, as a Python number."""
        if self.array.size != 1:
            raise RuntimeError(f"item: the Tensor has {self.array.size} elements (shape {self.shape}), not one")
        return self._on_cpu().item()

    def tolist(self) -> Any:
        return self._on_cpu().tolist()

    def _on_cpu(self) -> np.ndarray:
        return self.array if isinstance(self.array, np.ndarray) else move(self.array, "cpu")

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.size != 1 or self.array.dtype.kind not in "iu":
            raise TypeError(
                f"only integer Tensors of one element can be an index, not {self.dtype} of shape {self.shape}"
            )
        return self._on_cpu().item()

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise RuntimeError(
                f"the truth of a Tensor with {self.array.size} elements is ambiguous; use .any() or .all()"
            )
        return bool(self._on_cpu().item())

    def __contains__(self, element: Any) -> bool:
        """Whether an element equals `element`, which may also be a Tensor that broadcasts."""
        return bool((self == element).any())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.array.ndim == 0 else object.__format__(self, spec)

    def __repr__(self) -> str:
        from .printing import text  # which needs this file first

        return text(self)

    def __hash__(self) -> int:  # == compares elements, so Tensors in sets and dictionaries go by identity
        return id(self)

    def __copy__(self) -> Tensor:
        twin = _new(type(self))
        vars(twin).update(vars(self))
        return share(twin, self)

    def __reduce_ex__(self, protocol: Any) -> Any:  # what pickle calls
        if self.node is not None:
            raise RuntimeError(
                f"pickle: this Tensor is the result of {self.node.op.name}, and its graph cannot be pickled; "
                "use .detach()"
            )
        return super().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict) -> Tensor:
        if self.node is not None:
            raise RuntimeError("deepcopy: only leaf Tensors can be copied with their gradient; use .detach().clone()")
        twin = _new(type(self))
        with on(self.device):
            twin.array = self.array.copy()
            twin._requires_grad = self._requires_grad
            if self.grad is not None:
                twin.grad = Tensor._of(self.grad.array.copy())
        memo[id(self)] = twin
        return twin

    # Cut off from the graph ------------------------------------------------------------------------

    def detach(self) -> Tensor:
        """A leaf with the same memory that requires no gradient."""
        return share(Tensor._of(self.array), self)

    @property
    def data(self) -> Tensor:
        """As in PyTorch: the Tensor without its graph. Assigning replaces the numbers."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if self.node is not None:
            raise RuntimeError(
                "data: only a leaf's numbers can be replaced; this is the result of " + self.node.op.name
            )
        if not isinstance(value, Tensor):
            raise TypeError(f"data: expected a Tensor, not {type(value).__name__}")
        if self._requires_grad and not is_floating(value.dtype):
            raise RuntimeError(f"data: a Tensor that requires a gradient cannot hold {value.dtype}")
        written(self)  # for the nodes that kept the old numbers
        self.array = value.array
        share(self, value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        self.requires_grad = requires_grad
        return self

    if TYPE_CHECKING:  # the methods that other files attach

        def __getattr__(self, name: str) -> Any: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __iter__(self) -> Any: ...


def method(function: F) -> F:
    """Attach a function as a method of Tensor, under its own name."""
    setattr(Tensor, function.__name__, function)
    return function


def attach(**members: Any) -> None:
    """Attach operators, properties and ops to Tensor under the names given."""
    for name, member in members.items():
        setattr(Tensor, name, member)


def share(view: Tensor, source: Tensor) -> Tensor:
    """Note that two Tensors share memory, so that a write into one is seen as a write into the other."""
    version = source.version
    if version is None:
        if source.node is None:
            version = Version()
        else:  # another Tensor of this node may have been viewed before
            version = source.node.version = source.node.version or Version()
        source.version = version
    version.shared = True
    view.version = version
    if view.node is not None:
        view.node.version = version
    return view


def writable(array: Any) -> bool:
    """Whether an array may be written: NumPy protects some, and in what was broadcast elements share places."""
    if isinstance(array, np.ndarray):
        return array.flags.writeable
    return all(step or n < 2 for step, n in zip(array.strides, array.shape, strict=True))  # CuPy's arrays do not tell


def written(x: Tensor) -> Tensor:
    """Note that `x.array` was written in place."""
    if x._requires_grad and x.node is None:
        refuse(
            "a parameter is written; an optimiser's step would keep the learning rate and the count of this one",
            "let it step after replay()",
        )
    if x.version is None:
        x.version = Version()
    x.version.count += 1
    return x


def _as_array(data: Any, dtype: Any, where: Any) -> Any:
    """A new array of `data`'s numbers. Python floats become float32; what has a dtype keeps it."""
    data = array_of(data)
    data = np.asarray(data) if isinstance(data, np.ndarray) else data  # no matrix, whose * is another
    array = data if hasattr(data, "dtype") and not isinstance(data, np.generic) else np.array(_plain(data))
    if kind(array.dtype) not in "biufc":
        raise TypeError(f"tensor: cannot make numbers of {type(data).__name__} {str(data)[:60]!r}")
    if dtype is None and array.dtype == np.float64 and not _float64(data):
        dtype = get_default_dtype()
    with on(device_of(array)):
        array = array.astype(dtype or array.dtype, copy=array is data)
    return array if where is None else move(array, where)


def _plain(data: Any) -> Any:
    """Nested lists with the Tensors inside them turned into arrays of the CPU."""
    if isinstance(data, (list, tuple)):
        return [_plain(x) for x in data]
    return data._on_cpu() if isinstance(data, Tensor) else data


def _float64(data: Any) -> bool:
    """Whether something in `data` is float64 by itself. In a list, NumPy's float64 scalar is one of Python's floats."""
    if isinstance(data, (list, tuple)):
        return any(_float64(x) for x in data if not isinstance(x, float))
    return getattr(data, "dtype", None) == np.float64


def array_of(x: Any) -> Any:
    """The array inside a Tensor; anything else as it is."""
    return x.array if isinstance(x, Tensor) else x
