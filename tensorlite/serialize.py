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
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .device import move
from .stored import Stored, open_map
from .tensor import Tensor, array_of

FIELD = "tensorlite"  # of the metadata


def save(obj: Any, f: str | os.PathLike) -> None:
    """Write obj to a file: Tensors, arrays, numbers, strings, None and bools in any nest of dictionaries, lists
    and tuples.

    The file is written beside and renamed at the end, so that what was there before stays until all is on disk.
    Arrays come back as Tensors without a gradient, on the CPU; two Tensors that share memory as two that do not.
    Raises TypeError, which says where, for anything else.
    """
    arrays: dict[str, np.ndarray] = {}
    structure = _encode(obj, "", arrays)
    write_arrays(arrays, f, {FIELD: json.dumps(structure)})


def write_arrays(arrays: Mapping[str, np.ndarray], f: str | os.PathLike, metadata: Mapping[str, str]) -> None:
    """Write arrays in C order, and nothing but them and `metadata`, as a safetensors file; as careful as `save`.

    OSError if the disk is full, or takes no file there for another reason.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with replacing(f) as beside:
        try:
            save_file(dict(arrays), beside, metadata=dict(metadata))
        except SafetensorError as error:
            if code := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(code[1]), os.strerror(int(code[1])), str(f)) from error
            raise


@contextmanager
def replacing(f: str | os.PathLike) -> Iterator[Path]:
    """Gives the path of a file beside `f` to write. At the end it takes the place of `f`, or after an error is gone."""
    path = Path(f)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.chmod(0o666 & ~_umask())  # safetensors writes files that only their owner can read
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def clear_partial(folder: str | os.PathLike) -> None:
    """Remove what `replacing` left in a folder where its process was killed. Nobody else may be writing there."""
    for left in Path(folder).glob(".*.[0-9]*.part"):
        left.unlink(missing_ok=True)


def _umask() -> int:
    umask = os.umask(0)  # it can only be read by writing it
    os.umask(umask)
    return umask


def load(f: str | os.PathLike, map_location: Any = None, *, weights_only: bool = True, mmap: bool = False) -> Any:
    """What `save` wrote to a file; of any other safetensors file, a dictionary of names and Tensors.

    map_location  the device for the Tensors, by default the CPU
    weights_only  as in PyTorch; a file never holds anything else
    mmap          the Tensors are the file's own memory, read when it is first looked at. Writing into them does not
                  change the file; let nobody else write into it meanwhile

    bfloat16, which NumPy lacks, comes as float32.

    Raises ValueError for a file that is broken, or that is a pickle: reading one runs whatever code is in it.
    """

    def tensor(stored: Stored) -> Tensor:
        return Tensor._of(move(stored.map() if mmap else stored.read(), map_location or "cpu"))

    return _content(f, tensor)


def peek(f: str | os.PathLike) -> Any:
    """As `load`, but with a `Stored` for each array, which says where it lies: no number is read."""
    return _content(f, lambda stored: stored)


def _content(f: str | os.PathLike, leaf: Callable[[Stored], Any]) -> Any:
    """What is in a file, with leaf(array) for each of its arrays."""
    from safetensors import SafetensorError, safe_open

    path = Path(f)
    _refuse(path)
    try:
        with safe_open(path, framework="numpy"):  # which checks that arrays fill the file without gap or overlap
            memory = open_map(path)
        size = int.from_bytes(memory[:8], "little")
        header = json.loads(memory[8 : 8 + size], object_pairs_hook=_distinct)
        metadata = header.pop("__metadata__", {})
        arrays = {name: leaf(_stored(memory, 8 + size, **entry)) for name, entry in header.items()}
        return _decode(json.loads(metadata[FIELD]), arrays) if FIELD in metadata else arrays
    except (SafetensorError, ValueError, LookupError, RecursionError) as error:
        raise ValueError(f"load: {path} is broken: {error}") from error


DTYPES = {"BOOL": "?", "U8": "u1", "I8": "i1"} | {
    f"{kind}{bits}": f"<{kind.lower()}{bits // 8}" for kind in "UIF" for bits in (16, 32, 64)
}


def _stored(memory: Any, start: int, dtype: str, shape: list[int], data_offsets: list[int]) -> Stored:
    """An array as the header describes it; its offsets count from byte `start`."""
    if dtype != "BF16" and dtype not in DTYPES:
        raise ValueError(f"it holds the dtype {dtype}, which NumPy lacks; convert it to float32")
    kind = np.dtype(DTYPES.get(dtype, "<u2"))
    return Stored(memory, kind, tuple(shape), start + data_offsets[0], bfloat16=dtype == "BF16")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError if it has a key twice, of which readers may take either."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("its header has a name twice")
    return values


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


def _decode(x: Any, tensors: dict[str, Any]) -> Any:
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
