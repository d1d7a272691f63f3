"""tensorlite.data, under PyTorch's name."""
