"""save and load: state dicts, optimiser states and the like, in one safetensors file.

A safetensors file holds named arrays and a header in JSON, and reading it runs no code
(https://github.com/huggingface/safetensors). The arrays are stored as such, and what they are part of, as JSON
in the header's metadata: dictionaries with string keys, lists, strings, numbers, True, False and None stand
for themselves, and for the rest

    {"$tensor": name}      {"$tuple": [...]}      {"$dict": [[key, value], ...]}

the last for dictionaries with other keys, or keys that begin with a $.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .device import move
from .tensor import Tensor, array_of

FIELD = "tensorlite"  # of the metadata


def save(obj: Any, f: str | os.PathLike) -> None:
    """Write obj to a file: Tensors, arrays, numbers, strings, None and bools in any nest of dictionaries, lists
    and tuples.

    The file is written beside and renamed at the end, so that what was there before stays until all is on disk.
    Arrays come back as Tensors without a gradient, on the CPU; two Tensors that share memory as two that do not.
    Raises TypeError, which says where, for anything else.
    """
    from safetensors.numpy import save_file

    arrays: dict[str, np.ndarray] = {}
    structure = _encode(obj, "", arrays)
    path = Path(f)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(arrays, beside, metadata={FIELD: json.dumps(structure)})
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.chmod(0o666 & ~_umask())  # safetensors writes files that only their owner can read
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _umask() -> int:
    umask = os.umask(0)  # it can only be read by writing it
    os.umask(umask)
    return umask


def load(f: str | os.PathLike, map_location: Any = None, *, weights_only: bool = True) -> Any:
    """What `save` wrote to a file; of any other safetensors file, a dictionary of names and Tensors.

    map_location  the device for the Tensors, by default the CPU
    weights_only  as in PyTorch; a file never holds anything else

    Raises ValueError for a file that is broken, or that is a pickle: reading one runs whatever code is in it.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(f)
    _refuse(path)
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
            metadata = file.metadata() or {}
        tensors = {name: Tensor._of(move(array, map_location or "cpu")) for name, array in arrays.items()}
        return _decode(json.loads(metadata[FIELD]), tensors) if FIELD in metadata else tensors
    except TypeError as error:
        raise ValueError(f"load: {path} holds a dtype that NumPy lacks ({error}); convert it to float32") from error
    except (SafetensorError, ValueError, LookupError) as error:
        raise ValueError(f"load: {path} is broken: {error}") from error


def _encode(x: Any, where: str, arrays: dict[str, np.ndarray]) -> Any:
    """x as JSON; its arrays go to `arrays`, under the names of the keys that lead to them, joined by dots."""
    if isinstance(x, Tensor) or (hasattr(x, "dtype") and hasattr(x, "__array__") and not isinstance(x, np.generic)):
        name = where or "tensor"
        while name in arrays:
            name += "'"  # {"a": {"b": …}, "a.b": …}
        # In order, because safetensors writes the memory as it lies, whatever the strides.
        arrays[name] = np.asarray(move(array_of(x), "cpu"), order="C")
        return {"$tensor": name}
    if isinstance(x, np.generic):
        x = x.item()
    if x is None or isinstance(x, (bool, int, float, str)):
        return x
    at = f"{where}." if where else ""
    if isinstance(x, Mapping):
        values = [(key, _encode(value, f"{at}{key}", arrays)) for key, value in x.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key in x):
            return dict(values)
        return {"$dict": [[_encode(key, f"{at}{key}", arrays), value] for key, value in values]}
    if isinstance(x, (list, tuple)):
        items = [_encode(value, f"{at}{i}", arrays) for i, value in enumerate(x)]
        return items if isinstance(x, list) else {"$tuple": items}
    if hasattr(x, "state_dict"):
        raise TypeError(
            f"save: {where or 'the object'} is a {type(x).__name__}, and a file holds numbers, not code; save its "
            "state_dict(), and load that into one that is built anew with load_state_dict()"
        )
    raise TypeError(
        f"save: {where or 'the object'} is a {type(x).__name__}; a file can hold Tensors, arrays, numbers, strings, "
        "None, bools, and dictionaries, lists and tuples of them"
    )


def _decode(x: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(x, list):
        return [_decode(value, tensors) for value in x]
    if not isinstance(x, dict):
        return x
    if "$tensor" in x:
        return tensors[x["$tensor"]]
    if "$tuple" in x:
        return tuple(_decode(x["$tuple"], tensors))
    if "$dict" in x:
        return {_decode(key, tensors): _decode(value, tensors) for key, value in x["$dict"]}
    return {key: _decode(value, tensors) for key, value in x.items()}


def _refuse(path: Path) -> None:
    """Raise ValueError unless the file begins as safetensors do: 8 bytes with the header's length, and its {."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":
        return
    if start.startswith(b"PK") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            pickled = any(name.endswith(".pkl") for name in archive.namelist())
    else:
        pickled = start.startswith(b"\x80")  # the first opcode of a pickle, from protocol 2 on
    if pickled:
        raise ValueError(
            f"load: {path} is a pickle, as torch.save writes, and reading one runs whatever code is in it; if you "
            "trust it, convert it with PyTorch: safetensors.torch.save_file(torch.load(path), 'model.safetensors')"
        )
    raise ValueError(f"load: {path} is no safetensors file: it begins with {start!r}")
