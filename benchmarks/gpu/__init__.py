"""All that only a GPU can tell: whether the engine is right there, and how fast: `python -m benchmarks.gpu --all`."""
