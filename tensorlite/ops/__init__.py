"""The table of derivatives, a family of ops a file. `OPS` in ../op.py lists them all by name."""

from .arithmetic import *
from .elementwise import *
from .indexing import *
from .matrix import *
from .neural import *
from .reduction import *
from .shape import *
