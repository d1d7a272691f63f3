"""Kernels in CUDA, a family to a file as in `cpu/`: sources (.cu) and what launches them (.py).

Importing this costs nothing without a GPU: a source is compiled when one of its kernels is first launched.
"""

from . import activation, attention, cudnn, dropout, embedding, loss, matrix, normalisation, optim, product
