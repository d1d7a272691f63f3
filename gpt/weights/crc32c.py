"""CRC-32C, the checksum of TensorFlow's checkpoints, at some hundred megabytes a second.

A CRC is the remainder of the message, read as a polynomial over GF(2), so it is linear: that of `a + b` is that of `a`,
moved on by as many zero bytes as `b` has, xor that of `b`. So the message is cut into pieces which NumPy takes through
the table side by side, and the pieces' remainders are moved and added in pairs. Zeros before a message do not change
its remainder, so it is filled up at the front.

Sources: Castagnoli et al., *Optimization of Cyclic Redundancy-Check Codes* (1993), for the polynomial; RFC 3720,
appendix B.4, for test vectors; TensorFlow's and LevelDB's crc32c.h for the mask.
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78  # reversed: the lowest bit is the highest power
_STEPS = 128  # words of a piece
_PIECES = 4096  # at a time: 2 MiB


def crc32c(data: bytes | memoryview | NDArray[np.uint8]) -> int:
    """The CRC-32C of some bytes."""
    message = np.frombuffer(data, np.uint8)
    block = 4 * _STEPS * _PIECES
    register = np.zeros(1, np.uint32)
    whole = len(message) % block
    for first, last in [(0, whole), *((i, i + block) for i in range(whole, len(message), block))]:
        register = _moved(register, last - first) ^ _remainder(message[first:last])
    start = _moved(np.array([0xFFFFFFFF], np.uint32), len(message))  # the register begins with ones
    return int((register ^ start)[0]) ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """How a CRC is stored beside data, so that the CRC of both is not a constant."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _remainder(message: NDArray[np.uint8]) -> Words:
    """Of up to a block, from a register of zeros: (1,)."""
    pieces = 1
    while 4 * _STEPS * pieces < len(message):
        pieces *= 2
    padded = np.zeros(4 * _STEPS * pieces, np.uint8)
    padded[len(padded) - len(message) :] = message
    words = np.ascontiguousarray(padded.view("<u4").reshape(pieces, _STEPS).T)  # (steps, pieces)
    low, high = _TABLES
    register = np.zeros(pieces, np.uint32)
    for word in words:
        register ^= word
        halves = register.view("<u2")
        register = low.take(halves[::2]) ^ high.take(halves[1::2])
    size = 4 * _STEPS
    while len(register) > 1:
        register = _moved(register[::2], size) ^ register[1::2]
        size *= 2
    return register


def _moved(register: Words, zeros: int) -> Words:
    """Registers after so many zero bytes."""
    for power, operator in enumerate(_OPERATORS):
        if zeros >> power & 1:
            register = _times(operator, register)
    return register


def _times(operator: Words, vectors: Words) -> Words:
    """A matrix over GF(2), given as its 32 columns, times vectors."""
    bits = vectors[:, None] >> np.arange(32, dtype=np.uint32) & 1  # (n, 32)
    return np.bitwise_xor.reduce(bits * operator, axis=1)


def _after_bits(register: Words, bits: int) -> Words:
    for _ in range(bits):
        register = (register >> 1 ^ (register & 1) * np.uint32(_POLYNOMIAL)).astype(np.uint32)
    return register


# Moving on by 1, 2, 4, 8 … bytes.
_OPERATORS = [_after_bits(np.array([1 << i for i in range(32)], np.uint32), 8)]
for _ in range(48):
    _OPERATORS.append(_times(_OPERATORS[-1], _OPERATORS[-1]))
# What a register becomes after 32 bits, by its lower and by its upper half.
_HALF = np.arange(1 << 16, dtype=np.uint32)
_TABLES = _after_bits(_HALF, 32), _after_bits(_HALF * np.uint32(1 << 16), 32)
