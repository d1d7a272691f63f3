import tensorlite  # before NumPy, whose BLAS reads its settings when it is loaded
