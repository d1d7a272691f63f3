"""Reading LevelDB's sorted tables, as which TensorFlow stores the index of a checkpoint.

A file is a row of blocks and ends in a footer, which says where the index block is; that says where the blocks with the
entries are. In a block, a key names only what differs from the key before it:

    shared (varint)  fresh (varint)  length of the value (varint)  fresh bytes of the key  value

After the entries come the places where whole keys begin, uint32 each, and their number; after the block a byte for its
compression and a checksum.

Source: LevelDB, doc/table_format.md; Protocol Buffers, "Encoding", for varints.
"""

from collections.abc import Iterator

from gpt.weights.crc32c import crc32c, masked

FOOTER, MAGIC = 48, 0xDB4775248B80FB57
_LARGEST = 1 << 26  # bytes of a table; the index of the largest GPT-2 has 50,000


def read_table(content: bytes) -> dict[bytes, bytes]:
    """The keys and values of a table. ValueError says what is wrong with a broken one."""
    if len(content) > _LARGEST:
        raise ValueError(f"it has {len(content):,} bytes, and no index of a checkpoint has more than {_LARGEST:,}")
    if len(content) < FOOTER or int.from_bytes(content[-8:], "little") != MAGIC:
        raise ValueError("it does not end as a LevelDB table does; it is cut off, or another kind of file")
    footer = content[-FOOTER:-8]
    _, at = _handle(footer, 0)  # of the block of metadata
    index, _ = _handle(footer, at)
    table: dict[bytes, bytes] = {}
    last = b""
    for _, handle in _entries(_block(content, index)):
        for key, value in _entries(_block(content, _handle(handle, 0)[0])):
            if table and key <= last:
                raise ValueError(f"its keys are not in order: {key!r} comes after {last!r}")
            table[key] = value
            last = key
    return table


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a place: seven bits a byte, the lowest first, all but the last marked. And what comes
    after it. ValueError if it does not end."""
    number = 0
    for i, byte in enumerate(data[at : at + 10]):
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return number, at + i + 1
    raise ValueError(f"a number at byte {at} of {len(data)} does not end")


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _block(content: bytes, handle: tuple[int, int]) -> bytes:
    """The content of a block, without its trailer."""
    offset, size = handle
    end = offset + size
    if end + 5 > len(content) - FOOTER:
        raise ValueError(f"a block of {size:,} bytes from byte {offset:,} on is not within its {len(content):,} bytes")
    if content[end]:
        kind = "Snappy" if content[end] == 1 else f"method {content[end]}"
        raise ValueError(f"a block is compressed ({kind}), which no checkpoint of GPT-2's is")
    if masked(crc32c(content[offset : end + 1])) != int.from_bytes(content[end + 1 : end + 5], "little"):
        raise ValueError(f"the checksum of the block at byte {offset:,} is wrong: the file is damaged")
    return content[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(block) < 4:
        raise ValueError("a block is too short to be one")
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        fresh, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + fresh + length > end:
            raise ValueError(f"an entry at byte {at} of a block of {len(block)} reaches beyond it")
        key = key[:shared] + block[at : at + fresh]
        at += fresh
        yield key, block[at : at + length]
        at += length
    if at != end:
        raise ValueError("a block counts more places of keys than it has room for")
