"""Text in, batches of token ids out.

text       files that fit in memory                    windows    what a model is trained on
sources    files, folders, URLs and standard input     documents  what stands in them
build      documents to shards, in several processes   writer     the files while they grow
shards     the files of tokens, mapped                 folder     many of them and their index
"""

from train.corpus.text import Corpus, checked, make_tokenizer, python_docs, read, read_text, split
from train.corpus.windows import TokenArray, Windows

__all__ = [
    "Corpus",
    "TokenArray",
    "Windows",
    "checked",
    "make_tokenizer",
    "python_docs",
    "read",
    "read_text",
    "split",
]
