"""What PyTorch has and tensorlite has not answers with a sentence: the name, and what to use in its place.

    >>> import tensorlite as tl
    >>> tl.compile
    Traceback (most recent call last):
    AttributeError: tensorlite has no 'compile': call the function or module itself, there is nothing to compile
    >>> tl.arnage
    Traceback (most recent call last):
    AttributeError: tensorlite has no 'arnage': did you mean 'arange'?

`python -m tensorlite.missing` prints the table that stands in docs/pytorch.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from .tensor import Tensor, attach

INSTEAD = {  # what to use in its place: for these names, wherever PyTorch has them
    "call the function or module itself, there is nothing to compile":
        "compile compiler jit script trace fx export onnx cond",
    "leave it out: the dtype of the inputs decides, float32 unless you give another":
        "set_default_tensor_type",
    "install ml_dtypes, which has these numbers: pip install 'tensorlite[bf16]'":
        "bfloat16",
    "use float32, bfloat16 or float16":
        "float8_e4m3fn float8_e5m2 complex32 chalf BFloat16Tensor",
    "autocast casts what goes into an op, and a backward runs in the dtypes of its forward":
        "custom_fwd custom_bwd",
    "use real Tensors; complex ones serve only to check derivatives":
        "complex complex64 complex128 cfloat cdouble polar view_as_complex view_as_real real imag angle conj "
        "is_complex isreal resolve_conj adjoint",
    "use numpy.linalg on x.detach().numpy(), which gives no gradient":
        "linalg svd qr eig inverse det logdet slogdet pinverse cholesky cholesky_inverse cholesky_solve lstsq solve "
        "triangular_solve lu lu_solve matrix_exp matrix_power matrix_rank svd_lowrank pca_lowrank lobpcg chain_matmul",
    "use numpy.fft on x.detach().numpy(), which gives no gradient":
        "fft stft istft hann_window hamming_window blackman_window",
    "compute it with NumPy on x.detach().numpy()":
        "histc histogram unique_consecutive bucketize corrcoef cov cummax cummin "
        "logcumsumexp gcd lcm frexp trapezoid trapz combinations cartesian_prod",
    "sort, and pick from the sorted values":
        "median nanmedian quantile nanquantile kthvalue mode msort",
    "write it as the norm of differences of unsqueezed Tensors":
        "cdist pdist dist pairwise_distance PairwiseDistance",
    "run one process on one device; batches may be summed up over several backward() calls":
        "distributed multiprocessing DataParallel DistributedDataParallel parallel SyncBatchNorm nccl share_memory_",
    "there are no convolutions and nothing else for images or sound":
        "Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d conv1d conv2d conv3d conv_transpose1d conv_transpose2d "
        "MaxPool1d MaxPool2d AvgPool1d AvgPool2d AdaptiveAvgPool1d AdaptiveAvgPool2d max_pool1d max_pool2d avg_pool1d "
        "avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d BatchNorm2d InstanceNorm1d "
        "InstanceNorm2d instance_norm Dropout2d dropout2d Upsample interpolate grid_sample fold Fold PixelShuffle "
        "pixel_shuffle ZeroPad2d ReflectionPad2d ctc_loss CTCLoss",
    "there are no recurrent networks; gpt/ attends instead":
        "RNN LSTM GRU RNNCell LSTMCell GRUCell lstm gru lstm_cell gru_cell",
    "use F.scaled_dot_product_attention; gpt/model.py is a Transformer made with it":
        "Transformer TransformerEncoder TransformerEncoderLayer TransformerDecoder TransformerDecoderLayer "
        "multi_head_attention_forward attention",
    "declare a tensorlite.Op: a forward, and a row for each derivative":
        "Function library",
    "use tensorlite.autograd.functional, or a batch dimension":
        "func functorch vmap forward_ad",
    "use tensorlite.check.gradients(function, inputs); docs/checking.md explains it":
        "gradcheck gradgradcheck",
    "watch the ops with a tensorlite.Hook":
        "profiler overrides bottleneck tensorboard",
    "Tensors are dense":
        "sparse to_sparse to_sparse_coo to_sparse_csr sparse_coo_tensor is_sparse coalesce to_dense nested SparseAdam",
    "there are no quantised Tensors; store int8 ones and their scale":
        "quantization ao qint8 quint8 qint32 quantize_per_tensor dequantize int_repr quantized is_quantized",
    "use tensor(data, dtype=…)":
        "FloatTensor DoubleTensor HalfTensor LongTensor IntTensor ShortTensor ByteTensor BoolTensor",
    "give device= where Tensors are made, or move them with .to(device)":
        "set_default_device get_default_device accelerator mps xpu",
    "use from_numpy(numpy.memmap(…)) or from_numpy(numpy.frombuffer(…))":
        "from_file frombuffer Storage UntypedStorage storage untyped_storage",
    "leave it out: the same seed gives the same bits on the CPU":
        "use_deterministic_algorithms are_deterministic_algorithms_enabled deterministic",
    "use synchronize() and a clock; there is one stream":
        "Stream Event stream current_stream CUDAGraph graph",
    "use AdamW, Adam, Lion, Muon or SGD":
        "Adagrad Adadelta Adamax RMSprop Rprop NAdam RAdam LBFGS ASGD Adafactor",
    "draw with rand, randn, randint or multinomial":
        "distributions poisson binomial geometric_ cauchy_ log_normal_ random_",
    "load a safetensors file; gpt/checkpoint.py reads GPT-2's weights":
        "hub",
}  # fmt: skip

# The other methods of PyTorch's Tensor. (A module is asked for a name it lacks; a class only if all of its attributes
# become slower, so here the names are known before.)
METHODS = """
    H mH absolute acos acosh addbmm addcdiv addcmul addmv addr aminmax apply_ arccos arccosh arcsin arcsinh arctan
    arctan2 arctanh argwhere as_strided as_strided_scatter as_subclass asin asinh atan atan2 atanh
    bitwise_left_shift bitwise_right_shift ccol_indices char clip col_indices conj_physical const_data_ptr copysign
    cosh cross crow_indices cumprod data_ptr deg2rad dense_dim detach diag_embed diagflat diagonal_scatter diff
    digamma dim_order dsplit erfc erfinv fill_diagonal_ fix fliplr flipud float_power fmax fmin frac geqrf ger
    get_device grad_dtype greater greater_equal hardshrink hash_tensor heaviside hsplit hypot i0 igamma igammac
    index_put index_reduce inner ipu is_coalesced is_conj is_cpu is_distributed is_inference is_ipu is_maia is_meta
    is_mkldnn is_mps is_mtia is_neg is_nested is_nonzero is_pinned is_same_size is_set_to is_shared is_signed
    is_sparse_csr is_vulkan is_xla is_xpu isneginf isposinf kron layout ldexp less less_equal lgamma logaddexp2
    logit map2_ map_ masked_scatter module_load mtia multinomial mvlgamma name nanmean nansum narrow_copy ndimension
    negative new new_empty_strided nextafter nonzero_static not_equal orgqr ormqr polygamma positive prelu put
    q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale q_zero_point qscheme rad2deg
    record_stream reinforce renorm resize resize_as resize_as_sparse resolve_neg rot90 row_indices scatter_reduce
    select_scatter set_ sgn signbit sinc sinh slice_inverse slice_scatter smm sparse_dim sparse_mask sparse_resize_
    sparse_resize_and_clear_ split_with_sizes squeeze sspaddmm storage_offset storage_type stride subtract
    sum_to_size swapaxes swapdims symeig t tan tensor_split to_mkldnn to_padded_tensor to_sparse_bsc to_sparse_bsr
    to_sparse_csc transpose unfold unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze values vdot volatile
    vsplit xlogy
"""  # each also stands for its form in place, with an _ at the end

_INSTEAD = {name: remedy for remedy, names in INSTEAD.items() for name in names.split()}
_GENERAL = "it has the part of PyTorch that a GPT needs; docs/pytorch.md lists what is left out"


def sentence(where: str, name: str, names: list[str] | None = None) -> str:
    """Why there is no `name` in `where`, and what to use in its place; `names` are those there are."""
    remedy = _INSTEAD.get(name) or _INSTEAD.get(name.removesuffix("_"))
    if remedy is None and names is not None:
        from difflib import get_close_matches  # only now: an import costs time

        close = get_close_matches(name, names, 1, 0.8)
        remedy = f"did you mean {close[0]!r}?" if close else None
    if remedy is None and name.endswith("_") and hasattr(Tensor, name[:-1]):
        remedy = f"use x = x.{name[:-1]}(…)"
    return f"{where} has no {name!r}: {remedy or _GENERAL}"


def answer(module: ModuleType) -> Callable[[str], Any]:
    """A `__getattr__` for a module. Names that begin with an underscore are Python's way of asking what a thing can do;
    they are answered shortly."""

    def missing(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        raise AttributeError(sentence(module.__name__, name, _public(module)))

    return missing


def _public(module: ModuleType) -> list[str]:
    return [name for name, x in vars(module).items() if name[0] != "_" and not isinstance(x, ModuleType)]


class Absent:
    """An attribute that is not there."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        raise AttributeError(sentence("Tensor", self.name), name=self.name, obj=None)


def install(*modules: ModuleType) -> None:
    """Give the modules and Tensor their answers. To be called last: only what is not there is absent."""
    for module in modules:
        vars(module)["__getattr__"] = answer(module)
    for name in (*METHODS.split(), *filter(str.islower, _INSTEAD)):
        for form in (name, f"{name}_"):
            if not hasattr(Tensor, form):
                setattr(Tensor, form, Absent(form))


def _dir(self: Tensor) -> list[str]:
    """Without the names of what is absent."""
    return [name for name in object.__dir__(self) if not isinstance(vars(Tensor).get(name), Absent)]


attach(__dir__=_dir)


def table() -> Iterator[str]:
    """The lines of the table in docs/pytorch.md: what is left out, and what to use in its place."""
    import tensorlite as tl

    places = [tl, tl.Tensor, tl.nn, tl.nn.functional, tl.optim, tl.utils, tl.cuda, tl.autograd]
    yield from ("| left out | in its place |", "|---|---|")
    for remedy, names in INSTEAD.items():
        absent = [f"`{name}`" for name in names.split() if not any(hasattr(place, name) for place in places)]
        if absent:
            yield f"| {', '.join(absent)} | {remedy} |"


if __name__ == "__main__":
    print("\n".join(table()))
