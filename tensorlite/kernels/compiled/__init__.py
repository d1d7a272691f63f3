"""The blocks of kernels/cpu/, and of the optimisers, once more: as loops over numbers, which Numba compiles.

They attach themselves when imported, which `Block` does where Numba is installed. A loop reads what its formula in
NumPy reads, and writes what that writes, in one pass; products stay with BLAS. The first call of a loop on a machine
compiles it, in about a second; after that it is read from a file.
"""

from . import activation, adam, attention, loss, normalisation
