"""GPT-2's way to write bytes as text, in which its vocabulary files are written.

Each of the 256 bytes is one visible character: itself where Latin-1 has one for it, and for the other 68, which are
spaces and controls, the characters from U+0100 on. So the token " the" is written Ġthe.
"""

from collections.abc import Iterable

_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # ! to ~, ¡ to ¬, ® to ÿ
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
_WRITTEN = {byte: chr(byte) for byte in _VISIBLE} | {byte: chr(256 + n) for n, byte in enumerate(_HIDDEN)}
_READ = {ord(character): byte for byte, character in _WRITTEN.items()}

BYTES = bytes(_VISIBLE + _HIDDEN)  # in the order of GPT-2's ids: the byte BYTES[0] is the token 0
ALPHABET = "".join(_WRITTEN[byte] for byte in BYTES)
PLACES = bytes.maketrans(BYTES, bytes(range(256)))  # word.translate(PLACES) are the places of its bytes in BYTES


def write(token: Iterable[int]) -> str:
    """The bytes of a token as visible text.

    >>> write(" thé\\n".encode())
    'ĠthÃ©Ċ'
    """
    return "".join([_WRITTEN[byte] for byte in token])


def read(text: str) -> bytes:
    """The bytes that `write` wrote as `text`, whose characters must be those of ALPHABET.

    >>> read("Ġthe")
    b' the'
    """
    return bytes([_READ[ord(character)] for character in text])
