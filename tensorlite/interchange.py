"""Tensors and the arrays of other libraries in the same memory: DLPack, and CUDA's array interface.

DLPack (https://dmlc.github.io/dlpack) is how NumPy, CuPy, PyTorch, JAX and others hand arrays to each other. Writes on
either side show on the other, and are not tracked.
"""

from __future__ import annotations

from typing import Any

from .device import library
from .tensor import Tensor, attach

_CPU, _CUDA, _CUDA_HOST, _CUDA_MANAGED = 1, 2, 3, 13  # dlpack.h: DLDeviceType


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A Tensor that shares the memory of another library's array, on the CPU or an NVIDIA GPU.

    Raises TypeError for what does not speak DLPack, BufferError for another device.
    """
    if isinstance(ext_tensor, Tensor):
        return ext_tensor.detach()
    if not hasattr(ext_tensor, "__dlpack__") or not hasattr(ext_tensor, "__dlpack_device__"):
        raise TypeError(
            f"from_dlpack: a {type(ext_tensor).__name__} does not speak DLPack (it has no __dlpack__); use tensor(…)"
        )
    kind = int(ext_tensor.__dlpack_device__()[0])
    if kind not in (_CPU, _CUDA, _CUDA_HOST, _CUDA_MANAGED):
        raise BufferError(f"from_dlpack: the array lies on a device of type {kind}; move it to the CPU or a CUDA GPU")
    return Tensor._of(library("cuda" if kind in (_CUDA, _CUDA_MANAGED) else "cpu").from_dlpack(ext_tensor))


def _export(self: Tensor, **options: Any) -> Any:
    if self.requires_grad:
        raise BufferError("__dlpack__: this Tensor requires a gradient, which would be lost; use .detach()")
    return self.array.__dlpack__(**options)


def _cuda_array_interface(self: Tensor) -> Any:
    if not self.is_cuda:
        raise AttributeError(f"__cuda_array_interface__: this Tensor lies on {self.device}; use .cuda()")
    if self.requires_grad:
        raise RuntimeError("__cuda_array_interface__: this Tensor requires a gradient; use .detach()")
    return self.array.__cuda_array_interface__


attach(__dlpack__=_export, __dlpack_device__=lambda self: self.array.__dlpack_device__())
attach(__cuda_array_interface__=property(_cuda_array_interface))
