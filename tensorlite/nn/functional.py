"""The functions behind the layers, under PyTorch's names: `import tensorlite.nn.functional as F`."""

from ..ops.activation import dropout, gelu, log_softmax, softmax
from ..ops.arithmetic import minimum
from ..ops.attention import scaled_dot_product_attention
from ..ops.elementwise import exp, log, relu, sigmoid, tanh
from ..ops.embedding import embedding, one_hot
from ..ops.joining import pad
from ..ops.loss import cross_entropy, mse_loss
from ..ops.matrix import linear
from ..ops.normalisation import layer_norm
from ..tensor import Tensor


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), without overflow: min(x, 0) - log(1 + exp(-|x|))."""
    return minimum(input, 0) - log(1 + exp(-input.abs()))


def silu(input: Tensor) -> Tensor:
    """x sigmoid(x), also called swish. Elfwing et al., 2017."""
    return input * sigmoid(input)


__all__ = [
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "layer_norm",
    "linear",
    "log_softmax",
    "logsigmoid",
    "mse_loss",
    "one_hot",
    "pad",
    "relu",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
]
