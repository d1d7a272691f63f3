"""Writes TensorFlow checkpoints as tests need them: LevelDB tables, Protocol Buffers, and a slow CRC of its own."""

import json

import numpy as np


def crc32c(data):
    """Bit by bit, from the definition."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def message(*fields):
    """(number, value) pairs: ints as varints, bytes as they are, ("fixed32", n) as four bytes."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        elif isinstance(value, tuple):
            out += varint(number << 3 | 5) + value[1].to_bytes(4, "little")
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def block(entries, restart=16):
    """Sorted entries, of which every `restart`-th has its key whole."""
    out, restarts, last = b"", [], b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % restart:
            while shared < min(len(last), len(key)) and last[shared] == key[shared]:
                shared += 1
        else:
            restarts.append(len(out))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return out + b"".join(n.to_bytes(4, "little") for n in (*restarts, len(restarts)))


def table(entries, per_block=5, compression=0, restart=16):
    """The bytes of a table whose blocks have `per_block` entries each."""
    out, index = b"", []

    def add(content):
        nonlocal out
        handle = varint(len(out)) + varint(len(content))
        kind = bytes([compression])
        out += content + kind + masked(content + kind).to_bytes(4, "little")
        return handle

    entries = sorted(entries.items())
    for first in range(0, len(entries), per_block):
        part = entries[first : first + per_block]
        index.append((part[-1][0], add(block(part, restart))))
    meta, top = add(block([])), add(block(index, restart=1))
    return out + (meta + top).ljust(40, b"\0") + 0xDB4775248B80FB57.to_bytes(8, "little")


def entry(array, offset, data=None, **changes):
    """A BundleEntryProto for a float32 array."""
    data = array.tobytes() if data is None else data
    values = {"dtype": 1, "shape": array.shape, "shard": 0, "offset": offset, "size": len(data), **changes}
    shape = message(*((2, message((1, n))) for n in values["shape"]))
    slices = [(7, b"")] if changes.get("slices") else []
    return message(
        (1, values["dtype"]), (2, shape), (3, values["shard"]), (4, values["offset"]), (5, values["size"]),
        (6, ("fixed32", masked(data))), *slices,
    )  # fmt: skip


HEADER = message((1, 1), (3, message((1, 1))))


def variables(model):
    """A tensorlite model's weights under OpenAI's names and in their shapes."""
    kinds = {"ln": {"weight": "g", "bias": "b"}, "c_": {"weight": "w", "bias": "b"}}
    for name, x in model.named_parameters():
        x = x.detach().numpy().astype("<f4")
        *parts, kind = name.replace("h.", "h", 1).split(".") if name.startswith("h.") else name.split(".")
        if parts[0] in ("wte", "wpe"):
            yield f"model/{parts[0]}", x
            continue
        short = kinds[parts[-1][:2]][kind]
        yield "/".join(["model", *parts, short]), x.T[None] if short == "w" else x


def write_checkpoint(folder, model, per_block=5, edit=lambda table: table, **form):
    """OpenAI's folder with a model's weights; `edit` may change the table before it is written."""
    data, entries = b"", {b"": HEADER}
    for name, x in variables(model):
        x = np.ascontiguousarray(x)
        entries[name.encode()] = entry(x, len(data))
        data += x.tobytes()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.ckpt.data-00000-of-00001").write_bytes(data)
    (folder / "model.ckpt.index").write_bytes(table(edit(entries), per_block, **form))
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n')
    c = model.config
    (folder / "hparams.json").write_text(
        json.dumps(
            dict(n_vocab=c.vocab_size, n_ctx=c.context_length, n_embd=c.n_embd, n_head=c.n_head, n_layer=c.n_layer)
        )
    )
    return folder
