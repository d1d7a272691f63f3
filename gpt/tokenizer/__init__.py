"""Text to token ids and back: one interface, several ways to cut text into pieces.

A tokenizer is a vocabulary, which gives every piece of text an id from 0 to vocab_size - 1, and a rule that cuts text
into such pieces. Words make short sequences but cannot spell a new word; characters spell everything but make long
sequences; GPT-2's byte pairs stand between: frequent words are one token, rare ones a few, and any text has tokens.
"""

from gpt.tokenizer.base import END_OF_TEXT, Tokenizer, load_tokenizer
from gpt.tokenizer.bpe import BPETokenizer
from gpt.tokenizer.characters import CharacterTokenizer
from gpt.tokenizer.find import find_tokenizer
from gpt.tokenizer.gpt2 import GPT2Tokenizer
from gpt.tokenizer.words import WordTokenizer

__all__ = [
    "END_OF_TEXT",
    "BPETokenizer",
    "CharacterTokenizer",
    "GPT2Tokenizer",
    "Tokenizer",
    "WordTokenizer",
    "find_tokenizer",
    "load_tokenizer",
]
