"""Short things that PyTorch programs say of modules, gradients, optimisers and data, each with a few numbers out."""

import copy
import math
import os
import tempfile
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, TensorDataset


def filled(module, dtype=None):
    """The module with the same numbers wherever it runs."""
    for i, p in enumerate(module.parameters()):
        p.data.copy_((torch.arange(p.numel()) * 7 % 11).view(p.shape) / 8 - 0.6 + 0.1 * i)
    return module.to(dtype) if dtype else module


def mlp(dtype=torch.float32):
    return filled(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), dtype)


def state(model):
    return [p.detach().clone() for p in model.parameters()]


def steps(m, optimizer_of, count=4):
    """A few steps on m: losses, and where the parameters end."""
    model = mlp(m.dtype)
    optimizer = optimizer_of(model)
    losses = []
    for _ in range(count):
        optimizer.zero_grad()
        loss = (model(m.detach()) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, state(model)


def schedule(make, count=8):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = make(optimizer)
    rates = []
    for _ in range(count):
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    return rates, scheduler.get_last_lr()


# Gradients --------------------------------------------------------------------------------------------


def autograd_grad(x):
    y = (x**3).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    (h,) = torch.autograd.grad(g.pow(2).sum(), x, retain_graph=True)
    return g, h


def gradient_penalty(m):
    inputs = m.detach().clone().requires_grad_(True)
    out = mlp(m.dtype)(inputs)
    grad = torch.autograd.grad(outputs=out, inputs=inputs, grad_outputs=torch.ones_like(out), create_graph=True)[0]
    return ((grad.norm(2, dim=1) - 1) ** 2).mean()


def unused_input(v):
    other = torch.ones(2, requires_grad=True)
    return torch.autograd.grad((v * 2).sum(), [v, other], allow_unused=True)


def retained(x):
    y = x * 2
    y.retain_grad()
    (y**2).sum().backward(retain_graph=True)
    g, x.grad = y.grad.clone(), None
    return g, y.is_leaf, y.grad_fn is not None


def tensor_hook(x):
    seen = []
    y = x * 3
    handle = y.register_hook(lambda grad: grad * 0.5)
    y.register_hook(lambda grad: seen.append(grad.norm().item()))
    y.sum().backward()
    handle.remove()
    g, x.grad = x.grad, None
    return g, seen


def accumulation(m):
    model = mlp(m.dtype)
    for part in m.detach().split(2):
        (model(part).pow(2).mean() / 2).backward()
    whole = mlp(m.dtype)
    whole(m.detach()).pow(2).mean().backward()
    return [torch.allclose(p.grad, q.grad, atol=1e-6) for p, q in zip(model.parameters(), whole.parameters())]


def total_norm(m):
    model = mlp(m.dtype)
    model(m).sum().backward(retain_graph=True)
    total = 0.0
    for p in model.parameters():
        if p.grad is not None:
            param_norm = p.grad.data.norm(2)
            total += param_norm.item() ** 2
    m.grad = None
    clipped = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.5)
    return total**0.5, clipped, [p.grad for p in model.parameters()]


def clip_values(m):
    model = mlp(m.dtype)
    model(m.detach()).sum().backward()
    nn.utils.clip_grad_value_(model.parameters(), 0.3)
    return [p.grad for p in model.parameters()]


def straight_through(x):
    """The sign forward, the identity backward."""
    return x + (x.sign() - x).detach()


def modes(x):
    flags = []
    with torch.no_grad():
        flags.append((x * 2).requires_grad)
        with torch.enable_grad():
            flags.append((x * 2).requires_grad)
    with torch.set_grad_enabled(False):
        flags.append((x * 2).requires_grad)
    with torch.inference_mode():
        flags += [(x * 2).requires_grad, torch.is_grad_enabled()]
    return flags, (x.detach() * 2).requires_grad


@torch.inference_mode()
def decorated(x):
    return (x * 2).requires_grad


def by_hand(m):
    W = torch.linspace(-1, 1, 8, dtype=m.dtype).view(4, 2).requires_grad_()
    for _ in range(3):
        loss = ((m.detach() @ W) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            W -= 0.1 * W.grad
        W.grad.zero_()
    for _ in range(2):
        W.grad = None
        ((m.detach() @ W) ** 2).mean().backward()
        W.data += -0.1 * W.grad
    return W


# Modules ----------------------------------------------------------------------------------------------


def forward_hooks(m):
    activations, model = {}, mlp(m.dtype)

    def get_activation(name):
        def hook(module, input, output):
            activations[name] = output.detach()

        return hook

    handles = [layer.register_forward_hook(get_activation(str(i))) for i, layer in enumerate(model)]
    model.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    y = model(m)
    for handle in handles:
        handle.remove()
    return y, activations


def backward_hooks(m):
    seen, model = [], mlp(m.dtype)
    model[0].register_full_backward_hook(lambda module, grad_input, grad_output: seen.append(grad_output[0]))
    model(m).sum().backward()
    m.grad = None
    return seen


def weight_tying(ids):
    emb, head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
    head.weight = emb.weight
    model = nn.ModuleDict({"emb": filled(emb), "head": head})
    F.cross_entropy(head(emb(ids)).view(-1, 5), ids.view(-1)).backward()
    return list(model.state_dict()), len(list(model.parameters())), emb.weight.grad, head.weight is emb.weight


def causal_language_model(ids):
    """PyTorch's own attention as one layer of a language model."""
    emb = filled(nn.Embedding(5, 8))
    attention = filled(nn.MultiheadAttention(8, 2, batch_first=True, bias=True))
    x = emb(ids)
    mask = torch.triu(torch.ones(3, 3, dtype=torch.bool), diagonal=1)
    out, weights = attention(x, x, x, attn_mask=mask, need_weights=True)
    quick, none = attention(x, x, x, attn_mask=mask, need_weights=False, is_causal=True)
    loss = F.cross_entropy((out @ emb.weight.T).flatten(0, 1), ids.flatten())
    loss.backward(retain_graph=True)
    return out, weights, quick, none, loss, emb.weight.grad.clone(), list(attention.state_dict())


def batch_norm_free(m):
    return [filled(layer, m.dtype)(m) for layer in (nn.LayerNorm(4), nn.RMSNorm(4), nn.LayerNorm(4, bias=False))]


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(1, dtype=torch.long))
        self.register_buffer("cache", torch.ones(2), persistent=False)
        self.scales = nn.ParameterList([nn.Parameter(torch.full((4,), float(i))) for i in range(2)])
        self.register_parameter("offset", None)

    def forward(self, x):
        self.steps += 1
        return sum(x * scale for scale in self.scales)


def custom_module(m):
    module = Scale().to(m.dtype)
    y = module(m)
    module.eval()
    names = [name for name, _ in module.named_buffers()]
    return (
        y,
        module.state_dict(),
        names,
        module.training,
        module.offset is None,
        [n for n, _ in module.named_parameters()],
    )


def counting():
    model = mlp()
    total = sum(p.numel() for p in model.parameters() if p.requires_grad)
    per_type = Counter(type(layer).__name__ for layer in model.modules())
    sizes = defaultdict(int)
    for name, p in model.named_parameters():
        sizes[name.split(".")[0]] += math.prod(p.shape)
    memory = sum(p.nelement() * p.element_size() for p in model.parameters())
    return total, dict(per_type), dict(sizes), memory, next(model.parameters()).device.type


def surgery(m):
    model = mlp(m.dtype)
    model.add_module("extra", nn.Identity())
    model[1] = nn.ReLU()
    part = nn.Sequential(*list(model.children())[:-1])
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name == "0":
            parent, leaf = model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[-1]
            setattr(parent, leaf, nn.Identity())
    named = nn.Sequential(OrderedDict([("a", nn.Identity()), ("b", nn.Softmax(dim=-1))]))
    return part(m), len(model), list(named.state_dict()), named(m), named.b(m), [n for n, _ in named.named_children()]


def initialised():
    torch.manual_seed(0)
    linear = nn.Linear(50, 40)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.constant_(linear.bias, 0.5)
    bound = math.sqrt(6 / 90)
    spread = linear.weight.std().item() / (bound / math.sqrt(3))
    nn.init.kaiming_normal_(linear.weight, mode="fan_in", nonlinearity="relu")
    he = linear.weight.std().item() / math.sqrt(2 / 50)
    nn.init.trunc_normal_(linear.weight, std=0.02, a=-0.04, b=0.04)
    nn.init.orthogonal_(linear.weight)
    rows = torch.allclose(linear.weight @ linear.weight.T, torch.eye(40), atol=1e-4)
    return 0.9 < spread < 1.1, 0.9 < he < 1.1, linear.bias, rows


def averaged(m):
    model = mlp(m.dtype)
    ema = copy.deepcopy(model)
    model(m.detach()).sum().backward()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(p.grad, alpha=-0.1)
        for slow, fast in zip(ema.parameters(), model.parameters()):
            slow.mul_(0.9).add_(fast, alpha=0.1)
            slow.lerp_(fast, 0.5)
    return state(ema)


def saved(m):
    model = mlp(m.dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.pth")
        torch.save(model.state_dict(), path)
        other = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(m.dtype)
        keys = other.load_state_dict(torch.load(path, weights_only=True))
    partial = other.load_state_dict({"0.bias": torch.zeros(5, dtype=m.dtype)}, strict=False)
    return keys.missing_keys, partial.missing_keys, other(m)


# Optimisers and data ----------------------------------------------------------------------------------


def optimizer_state(m):
    model = mlp(m.dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model(m.detach()).sum().backward()
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    moments = {key: value.clone() if hasattr(value, "clone") else value for key, value in saved["state"][0].items()}
    again = torch.optim.AdamW(model.parameters(), lr=1.0)
    again.load_state_dict(saved)
    again.step()
    return sorted(moments), int(moments["step"]), moments["exp_avg"], again.param_groups[0]["lr"], state(model)


class Windows(Dataset):
    def __init__(self, data, size):
        self.data, self.size = data, size

    def __len__(self):
        return len(self.data) - self.size

    def __getitem__(self, i):
        chunk = self.data[i : i + self.size + 1]
        return torch.tensor(chunk[:-1], dtype=torch.long), torch.tensor(chunk[1:], dtype=torch.long)


def loaders(ids):
    loader = DataLoader(Windows(list(range(9)), 3), batch_size=4, shuffle=False, pin_memory=False)
    tensors = DataLoader(TensorDataset(ids, ids.float()), batch_size=2)
    words = DataLoader(["a", "b", "c"], batch_size=2)
    dicts = DataLoader([{"x": i, "y": np.float32(i)} for i in range(3)], batch_size=3)
    train, val = torch.utils.data.random_split(range(10), [8, 2], generator=torch.Generator().manual_seed(1))
    shuffled = DataLoader(range(20), batch_size=5, shuffle=True)
    return [
        [list(batch) for batch in loader],
        [list(batch) for batch in tensors],
        [list(batch) for batch in words],
        [dict(batch) for batch in dicts],
        sorted([*train, *val]) == list(range(10)),
        sorted(torch.cat(list(shuffled)).tolist()) == list(range(20)),
        (len(loader), len(shuffled), len(loader.dataset), len(train)),
    ]


def endless(ids):
    loader = DataLoader(ids.flatten(), batch_size=4)
    data_iter, seen = iter(loader), []
    for _ in range(5):
        try:
            batch = next(data_iter)
        except StopIteration:
            data_iter = iter(loader)
            batch = next(data_iter)
        seen.append(batch)
    return seen


def warmup_then_cosine(step):
    return (step + 1) / 3 if step < 3 else 0.5 * (1 + math.cos(math.pi * (step - 3) / 5))


IDIOMS = {
    "autograd.grad": autograd_grad,
    "gradient penalty": gradient_penalty,
    "unused input": unused_input,
    "retain_grad": retained,
    "register_hook": tensor_hook,
    "accumulation": accumulation,
    "norm of all gradients": total_norm,
    "clip_grad_value_": clip_values,
    "straight through": straight_through,
    "modes": modes,
    "inference_mode decorates": decorated,
    "descent by hand": by_hand,
    "functional derivatives": lambda v: torch.autograd.functional.jacobian(lambda z: z.exp() * 2, v.detach()),
    "checkpoint": lambda x: torch.utils.checkpoint.checkpoint(lambda z: z.exp().sin(), x, use_reentrant=False),
    "forward hooks": forward_hooks,
    "backward hooks": backward_hooks,
    "weight tying": weight_tying,
    "MultiheadAttention": causal_language_model,
    "norms": batch_norm_free,
    "custom module": custom_module,
    "counting parameters": counting,
    "surgery": surgery,
    "initialisation": initialised,
    "moving average of weights": averaged,
    "save and load": saved,
    "activations as modules": lambda x: [f()(x) for f in (nn.ReLU, nn.SiLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.Softplus)],
    "losses as modules": lambda m: nn.CrossEntropyLoss(ignore_index=-1)(m, torch.tensor([1, -1, 0, 2])),
    "KLDivLoss": lambda m: nn.KLDivLoss(reduction="batchmean")(m.log_softmax(-1), m.detach().flip(0).softmax(-1)),
    "embedding with padding": lambda ids: filled(nn.Embedding(5, 3, padding_idx=0))(ids),
    "from_pretrained": lambda m, ids: nn.Embedding.from_pretrained(m.detach(), freeze=True)(ids.clamp(max=3)),
    "dropout in eval": lambda x: (nn.Dropout(0.5).eval()(x), F.dropout(x, 0.5, training=False), nn.Dropout(0.0)(x)),
    "annotated": lambda x: isinstance(x, Tensor) and isinstance(nn.Parameter(x.detach()), nn.Parameter),
    "SGD with momentum": lambda m: steps(
        m, lambda f: torch.optim.SGD(f.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    ),
    "Adam": lambda m: steps(m, lambda f: torch.optim.Adam(f.parameters(), lr=1e-2, weight_decay=0.1, amsgrad=True)),
    "AdamW without loops": lambda m: steps(m, lambda f: torch.optim.AdamW(f.parameters(), lr=1e-2, foreach=False)),
    "maximise": lambda m: steps(m, lambda f: torch.optim.AdamW(f.parameters(), lr=1e-2, maximize=True)),
    "groups by name": lambda m: steps(
        m,
        lambda f: torch.optim.AdamW(
            [{"params": f[0].parameters(), "lr": 1e-3}, {"params": f[2].parameters()}], lr=1e-2
        ),
    ),
    "state_dict of an optimiser": optimizer_state,
    "LambdaLR": lambda: schedule(lambda o: LambdaLR(o, lr_lambda=warmup_then_cosine)),
    "CosineAnnealingLR": lambda: schedule(
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=8, eta_min=0.01)
    ),
    "StepLR": lambda: schedule(lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=3, gamma=0.5)),
    "OneCycleLR": lambda: schedule(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.2, total_steps=9)),
    "SequentialLR": lambda: schedule(
        lambda o: torch.optim.lr_scheduler.SequentialLR(
            o,
            [
                torch.optim.lr_scheduler.LinearLR(o, start_factor=0.1, total_iters=3),
                torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=5),
            ],
            milestones=[3],
        )
    ),
    "loaders": loaders,
    "endless batches": endless,
    "devices": lambda x: (
        x.device.type,
        str(torch.device("cpu")),
        x.is_cuda,
        torch.cuda.is_available() in (True, False),
    ),
    "seeds": lambda: torch.equal(*[torch.rand(3, generator=torch.Generator().manual_seed(4)) for _ in range(2)]),
    "rng state": lambda: (lambda s: torch.equal(torch.rand(2), (torch.set_rng_state(s), torch.rand(2))[1]))(
        torch.get_rng_state()
    ),
}
