"""Samples of the ops in ops/normalisation.py."""

from .sample import S, Table, normal

# fmt: off
SAMPLES: Table = {
    "layer_norm": [
        S(normal(*shape), weight, bias, dims=dims, eps=1e-2)
        for shape, dims in (((2, 4), 1), ((2, 2, 3), 1), ((2, 3, 2), 2), ((4,), 1), ((2, 1), 1), ((0, 3), 1))
        for n in [shape[len(shape) - dims :]]
        for weight, bias in ((normal(*n), normal(*n)), (normal(*n), None), (None, normal(*n)), (None, None))
    ] + [S(normal(4, 2).T, normal(4), normal(4), dims=1, eps=1e-5)],
    "rms_norm": [
        S(normal(*shape), weight, dims=dims, eps=1e-2)
        for shape, dims in (((2, 4), 1), ((2, 2, 3), 1), ((2, 3, 2), 2), ((4,), 1), ((2, 1), 1), ((0, 3), 1))
        for weight in (normal(*shape[len(shape) - dims :]), None)
    ] + [S(normal(4, 2).T, normal(4), dims=1, eps=1e-5)],
}

LARGE: Table = {
    "layer_norm": [S(normal(4, 65, 130), normal(130), normal(130), dims=1, eps=1e-5)],
    "rms_norm": [S(normal(4, 65, 130), normal(130), dims=1, eps=1e-5), S(normal(70, 3, 400), None, dims=2, eps=1e-5)],
}
