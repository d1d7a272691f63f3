"""The functions behind the layers, under PyTorch's names: `import tensorlite.nn.functional as F`."""

from ..ops.activation import (
    dropout,
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    logsigmoid,
    relu,
    silu,
    softmax,
    softplus,
    swiglu,
)
from ..ops.attention import scaled_dot_product_attention
from ..ops.elementwise import sigmoid, tanh
from ..ops.embedding import embedding, one_hot
from ..ops.joining import pad
from ..ops.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    linear_cross_entropy,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from ..ops.matrix import linear
from ..ops.normalisation import batch_norm, cosine_similarity, layer_norm, normalize, rms_norm
