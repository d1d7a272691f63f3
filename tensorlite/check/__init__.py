"""Gradient checking: is what backward() gives the slope of the function?

    from tensorlite import check

    check.gradients(fn, (x, y))         a function of Tensors
    check.op("softmax")                 an op, on its samples
    check.sample(my_op, x, dim=1)       one more sample of an op
    python -m tensorlite.check          every op on all its samples

docs/checking.md is the guide. `import tensorlite` does not import this package.
"""

from .checker import gradients, op
from .result import Finding, GradientError, Kink, Mistake, OpReport, Report
from .samples import sample

__all__ = ["Finding", "GradientError", "Kink", "Mistake", "OpReport", "Report", "gradients", "op", "sample"]
