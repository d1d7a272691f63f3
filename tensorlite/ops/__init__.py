"""The table of derivatives, a family of ops a file. `OPS` in ../op.py lists them all by name.

A file's `__all__` is what PyTorch has in its main namespace; what it has in nn.functional, ../nn/functional.py imports.
"""

from . import attention, embedding, loss, normalisation
from .activation import *
from .arithmetic import *
from .einsum import *
from .elementwise import *
from .indexing import *
from .joining import *
from .matrix import *
from .reduction import *
from .shape import *
from .sorting import *
