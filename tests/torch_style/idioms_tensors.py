"""Short things that PyTorch programs say of Tensors. Parameters: x (2, 3, 4), m (4, 4), v (6,), ids (2, 3) in 0 … 4."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def nucleus(m, p=0.7):
    sorted_logits, sorted_indices = torch.sort(m, descending=True, dim=-1)
    cumulative_probs = torch.cumsum(F.softmax(sorted_logits, dim=-1), dim=-1)
    sorted_indices_to_remove = cumulative_probs > p
    sorted_indices_to_remove[..., 1:] = sorted_indices_to_remove[..., :-1].clone()
    sorted_indices_to_remove[..., 0] = False
    indices_to_remove = sorted_indices_to_remove.scatter(-1, sorted_indices, sorted_indices_to_remove)
    return m.masked_fill(indices_to_remove, float("-inf"))


def kept_nucleus(m, p=0.8):
    probs_sort, probs_idx = torch.sort(torch.softmax(m, dim=-1), dim=-1, descending=True)
    probs_sum = torch.cumsum(probs_sort, dim=-1)
    mask = probs_sum - probs_sort > p
    probs_sort = probs_sort.masked_fill(mask, 0.0)
    probs_sort = probs_sort / probs_sort.sum(dim=-1, keepdim=True)
    return torch.zeros_like(m).scatter_(-1, probs_idx, probs_sort)


def repetition_penalty(logits, ids, penalty=1.3):
    score = torch.gather(logits, 1, ids)
    score = torch.where(score < 0, score * penalty, score / penalty)
    return logits.scatter(1, ids, score)


def bigrams(ids):
    counts = torch.zeros((5, 5), dtype=torch.int32)
    for row in ids.tolist():
        for a, b in zip(row, row[1:]):
            counts[a, b] += 1
    P = (counts + 1).float()
    P /= P.sum(1, keepdim=True)
    return counts, P


def averages_by_matrix(x):
    wei = torch.tril(torch.ones(3, 3, dtype=x.dtype))
    wei = wei / wei.sum(1, keepdim=True)
    xbow = torch.zeros(x.shape, dtype=x.dtype)
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            xbow[b, t] = torch.mean(x[b, : t + 1], 0)
    tril = torch.tril(torch.ones(3, 3))
    soft = F.softmax(torch.zeros((3, 3), dtype=x.dtype).masked_fill(tril == 0, float("-inf")), dim=-1)
    return wei @ x, xbow, soft @ x


def distillation(x, T=2.0):
    student, teacher = x, x.detach().flip(-1)
    return F.kl_div(F.log_softmax(student / T, dim=-1), F.softmax(teacher / T, dim=-1), reduction="batchmean") * T * T


def set_parts(x):
    y = x.detach().clone()
    y[:, 0] = 0
    y[y > 1] = 1.0
    y[0, :, 1:3] *= 2
    y[..., -1] += torch.tensor([1.0, 2.0, 3.0])
    return y


def sinusoids(length=5, width=6):
    position = torch.arange(length).unsqueeze(1)
    div_term = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    pe = torch.zeros(length, width)
    pe[:, 0::2] = torch.sin(position * div_term)
    pe[:, 1::2] = torch.cos(position * div_term)
    return pe


def alibi(heads=4, length=3):
    slopes = torch.tensor([2 ** (-8 * (i + 1) / heads) for i in range(heads)])
    distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]
    return slopes[:, None, None] * distance.clamp(max=0)


def accumulate(x):
    total = torch.zeros(3, 4, dtype=x.dtype)
    for part in x:
        total += part
        total *= 0.5
    return total


IDIOMS = {
    # indexing
    "every second": lambda x: x[..., ::2],
    "last position": lambda x: x[:, -1, :],
    "last position, kept": lambda x: x[:, [-1], :],
    "new axis": lambda x: (x[None].shape, x[:, None, :, 0], x.unsqueeze(-1).shape),
    "rows by a Tensor": lambda m, ids: m[ids.clamp(max=3)],
    "pairs of indices": lambda x: x[torch.arange(2), torch.tensor([0, 2])],
    "by a mask": lambda x: x[x > 0],
    "target log-probabilities": lambda m: -F.log_softmax(m, -1)[range(4), [1, 0, 3, 2]].mean(),
    "list of indices": lambda v: v[[0, 2, 2]],
    "iterate and unpack": lambda x: [a * b for a, b in zip(*x)],
    "set parts": set_parts,
    "gather": lambda m: m.gather(1, torch.tensor([[0], [3], [1], [1]])).squeeze(1),
    "index_select": lambda x: torch.index_select(x, 1, torch.tensor([2, 0])),
    "take_along_dim": lambda x: torch.take_along_dim(x, x.argsort(dim=-1), dim=-1),
    "scatter_ one-hot": lambda ids: torch.zeros(2, 3, 5).scatter_(2, ids.unsqueeze(-1), 1.0),
    "scatter_add": lambda x, ids: torch.zeros(5, dtype=x.dtype).scatter_add(0, ids.flatten(), x[..., 0].flatten()),
    "index_add_": lambda x: torch.zeros(3, 4, dtype=x.dtype).index_add_(0, torch.tensor([0, 2]), x[:, 0]),
    "nonzero": lambda ids: (torch.nonzero(ids == 1), (ids == 1).nonzero(as_tuple=True)),
    "masked_select": lambda x: torch.masked_select(x, x.ge(0.2)),
    # making
    "like another": lambda x: (x.new_zeros(2), torch.full_like(x, 3), torch.zeros_like(x, dtype=torch.long)),
    "new_full": lambda x, ids: (ids.new_full((2, 1), 7), x.new_ones(3), ids.new_tensor([1, 2])),
    "full with -inf": lambda: torch.triu(torch.full((4, 4), float("-inf")), diagonal=1),
    "mask of ones": lambda: torch.tril(torch.ones(4, 4, dtype=torch.bool)).logical_not(),
    "mask by comparison": lambda: torch.arange(4)[:, None] >= torch.arange(4)[None, :],
    "tril_indices": lambda m: m[tuple(torch.tril_indices(4, 4))],
    "one_hot": lambda ids: F.one_hot(ids, num_classes=6).float(),
    "one_hot matmul": lambda ids, x: F.one_hot(ids, num_classes=5)[..., :4].to(x.dtype) @ x.mT,
    "sinusoids": sinusoids,
    "alibi": alibi,
    "linspace, eye, diag": lambda m: (torch.linspace(0, 1, 5), torch.eye(3), torch.diag(m), m.diagonal()),
    "meshgrid": lambda: torch.meshgrid(torch.arange(2), torch.arange(3), indexing="ij"),
    "tensor of tensors": lambda v: torch.tensor([v[0].item(), v[1].item()]),
    "numpy and back": lambda x: torch.from_numpy(x.detach().cpu().numpy() * 2),
    "array of a Tensor": lambda x: np.asarray(x.detach()).mean().item(),
    # shapes
    "chunk": lambda x: torch.chunk(x, 2, dim=-1),
    "split": lambda x: (x.split(3, dim=-1), torch.split(x, [1, 3], dim=2)),
    "unbind": lambda x: x.unbind(0),
    "view of size": lambda x: x.view(x.size(0), -1, 2).transpose(1, 2).contiguous().view(-1),
    "view_as and expand": lambda x, v: (v[:4].expand_as(x), v.view(2, 3).unsqueeze(-1).expand(-1, -1, 4)),
    "permute, flatten": lambda x: (x.permute(0, 2, 1).flatten(1), x.reshape(-1, x.shape[-1]), x.flatten()),
    "unflatten": lambda x: x.unflatten(-1, (2, 2)),
    "repeat": lambda v: (v.repeat(2, 1), v.repeat_interleave(2), torch.tile(v, (2,))),
    "stack and cat": lambda x: (torch.stack([x, -x], dim=1), torch.cat([x, x[:, :1]], dim=1), torch.hstack([x, x])),
    "roll and flip": lambda x: (torch.roll(x, shifts=1, dims=1), torch.flip(x, dims=[-1])),
    "pad": lambda x: (F.pad(x, (1, 0), value=-1.0), F.pad(x, (0, 0, 2, 0))),
    "movedim, swapaxes": lambda x: (x.movedim(0, -1), x.swapaxes(0, 1), x.mT),
    "shape": lambda x: (tuple(x.shape), x.size(-1), x.dim(), x.numel(), len(x), list(x.size())),
    "broadcast_to": lambda v: torch.broadcast_to(v, (2, 6)),
    # reductions and order
    "norm": lambda x: (x.norm(), x.norm(dim=-1, keepdim=True), torch.norm(x, p=1)),
    "normalise": lambda x: F.normalize(x, dim=-1),
    "cosine similarity": lambda x: F.cosine_similarity(x[0], x[1], dim=-1),
    "max and its place": lambda x: (x.max(), x.max(dim=-1).values, torch.max(x, 1)[1], x.amax(dim=(1, 2))),
    "max of two": lambda x: (torch.max(x, -x), torch.maximum(x, torch.zeros_like(x)), torch.minimum(x, -x)),
    "unpacked max": lambda x: list(torch.max(x, dim=1)),
    "spread": lambda x: (x.var(dim=-1), x.std(), x.var(-1, unbiased=False)),
    "standardise": lambda x: (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5),
    "topk": lambda m: torch.topk(m, k=2),
    "kth value as a bound": lambda m: m.masked_fill(m < torch.topk(m, 2)[0][..., -1, None], -1e9),
    "nucleus": nucleus,
    "nucleus, kept": kept_nucleus,
    "minimal p": lambda m: m.masked_fill(m.softmax(-1) < 0.3 * m.softmax(-1).amax(-1, keepdim=True), -torch.inf),
    "repetition penalty": lambda m: repetition_penalty(m.detach(), torch.tensor([[0, 1], [1, 2], [3, 3], [2, 0]])),
    "sort and argsort": lambda m: (m.sort(dim=0).values, m.argsort(descending=True), torch.sort(m)[0]),
    "counts": lambda ids: torch.bincount(ids.flatten(), minlength=6),
    "bigrams": bigrams,
    "averages by a matrix": averages_by_matrix,
    "logsumexp": lambda x: (x.logsumexp(-1), torch.logsumexp(x, dim=(1, 2)), x.exp().sum(-1).log()),
    "any and all": lambda x: ((x > 0).any().item(), (x > -9).all().item(), (x > 0).any(dim=-1), torch.isnan(x).any()),
    "accuracy": lambda x, ids: (x.argmax(-1) == ids).float().mean().item(),
    "cumulative": lambda v: (v.cumsum(0), v.cumsum(dim=-1).flip(0)),
    # arithmetic
    "einsum scores": lambda x: torch.einsum("bqd,bkd->bqk", x, x),
    "einsum with ellipsis": lambda x, m: torch.einsum("...d,de->...e", x, m),
    "einsum trace, outer": lambda m, v: (torch.einsum("ii->", m), torch.einsum("i,j->ij", v, v)),
    "products": lambda m, v: (torch.matmul(m, m), m.mm(m), torch.mv(m, v[:4]), torch.dot(v, v), torch.outer(v, v)),
    "bmm, baddbmm": lambda x: (torch.bmm(x, x.transpose(1, 2)), torch.baddbmm(x @ x.mT, x, x.mT, beta=0.5, alpha=2)),
    "clamp": lambda x: (x.clamp(-1, 1), torch.clamp(x, min=0), x.clamp_min(0.1)),
    "where": lambda x: (torch.where(x > 0, x, 0.1 * x), torch.where(x > 0, x, torch.zeros_like(x)), torch.where(x > 1)),
    "rsqrt": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
    "gelu by hand": lambda x: 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))),
    "a Tensor as a constant": lambda x: torch.tanh(torch.sqrt(torch.tensor(0.25)) * (x + torch.pow(x, 3))),
    "gelu by erf": lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))),
    "squares": lambda x: (x.square(), x.abs(), x.sign(), torch.sqrt(x.abs() + 1), x.exp().log1p(), x.sigmoid()),
    "activations": lambda x: (F.relu(x), F.silu(x), F.leaky_relu(x), F.elu(x), F.softplus(x), F.relu(x).square()),
    "lerp": lambda x: (torch.lerp(x, -x, 0.3), torch.lerp(x, x + 1, 0.5)),
    "whole numbers": lambda ids: (ids // 2, ids % 3, -ids // 2, ids / 2, ids.float().mean(), ids.sum().item(), ids**2),
    "promotion": lambda x, ids: ((x * ids[..., None]).dtype == x.dtype, (ids + 1.5), (ids == 1).sum(), True + ids),
    "compare": lambda x: (torch.allclose(x, x + 1e-9), torch.equal(x, x), (x == x).all().item(), torch.isclose(x, x)),
    "softmax with temperature": lambda m: [torch.softmax(m / T, dim=-1) for T in (1, 0.1, 5)],
    "sampling by Gumbel": lambda m: (m / torch.linspace(0.5, 2, 16, dtype=m.dtype).view_as(m)).argmax(
        dim=-1, keepdim=True
    ),
    "conversions": lambda x: (x.long(), x.int().tolist(), x.bool(), x.to(torch.float64).half(), x.type(torch.float32)),
    "type_as": lambda x, ids: (ids.type_as(x), x.double().to(x), x.to("cpu", dtype=torch.float32)),
    "a number": lambda v: (float(v[0].detach()), int(v.detach()[1] * 10), v[2].item(), bool(v[0] > 0)),
    "format": lambda v: f"{v.mean():.3f} {v.sum():.2f}",
    "in place": lambda x: x.clone().mul_(2).add_(1).clamp_(-1, 1).sub_(0.5).div_(3),
    "augmented": accumulate,
    "compared with None": lambda x: (x == None, x != None),
    "empty and full": lambda v: torch.cat([torch.zeros(0, dtype=v.dtype), v]),
    "finite": lambda x: (torch.isfinite(x).all().item(), torch.isinf(x / 0).any().item(), torch.nan_to_num(x / 0 * 0)),
    "finfo": lambda x: x.masked_fill(x < 0, torch.finfo(x.dtype).min),
    # losses
    "cross entropy, smoothed": lambda m: F.cross_entropy(m, torch.tensor([1, 0, 3, 2]), label_smoothing=0.1),
    "cross entropy, weighted": lambda m: F.cross_entropy(
        m, torch.tensor([1, 0, -100, 2]), weight=torch.tensor([1, 2, 0.5, 1], dtype=m.dtype)
    ),
    "cross entropy, each": lambda m: F.cross_entropy(m, torch.tensor([1, 0, -100, 2]), reduction="none"),
    "cross entropy over time": lambda x, ids: F.cross_entropy(x.transpose(1, 2), ids.clamp(max=3)),
    "cross entropy, probabilities": lambda m: F.cross_entropy(m, torch.eye(4, dtype=m.dtype)),
    "perplexity": lambda x, ids: torch.exp(F.cross_entropy(x.view(-1, 4), ids.view(-1).clamp(max=3))),
    "nll_loss": lambda m: F.nll_loss(F.log_softmax(m, dim=1), torch.tensor([1, 0, 3, 2])),
    "regressions": lambda x: (F.mse_loss(x, -x), F.l1_loss(x, x * 2), F.smooth_l1_loss(x, x * 3), F.huber_loss(x, -x)),
    "binary": lambda v: F.binary_cross_entropy_with_logits(v, (v.detach() > 0).to(v.dtype)),
    "binary, probabilities": lambda v: nn.BCELoss()(torch.sigmoid(v), (v.detach() > 0.1).to(v.dtype)),
    "distillation": distillation,
    "entropy": lambda m: -(m.softmax(-1) * m.log_softmax(-1)).sum(-1).mean(),
    "KL of a policy": lambda m: (torch.exp(m - m.detach()) - 1 - (m - m.detach())).mean(),
    "contrastive": lambda m: (F.cross_entropy(m, torch.arange(4)) + F.cross_entropy(m.t(), torch.arange(4))) / 2,
}
