"""A GPT as a course writes it: sliding windows, own layer norm and GELU, training, sampling, weights from arrays."""

import math
import os
import re

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset


class SimpleTokenizer:
    def __init__(self, text):
        words = sorted(set(self.split(text)))
        words.extend(["<|endoftext|>", "<|unk|>"])
        self.str_to_int = {token: integer for integer, token in enumerate(words)}
        self.int_to_str = {integer: token for token, integer in self.str_to_int.items()}

    @staticmethod
    def split(text):
        return [item.strip() for item in re.split(r"([,.:;?!]|\s)", text) if item.strip()]

    def encode(self, text):
        return [self.str_to_int.get(word, self.str_to_int["<|unk|>"]) for word in self.split(text)]

    def decode(self, ids):
        text = " ".join([self.int_to_str[i] for i in ids])
        return re.sub(r"\s+([,.:;?!])", r"\1", text)


class GPTDatasetV1(Dataset):
    def __init__(self, txt, tokenizer, max_length, stride):
        self.input_ids = []
        self.target_ids = []
        token_ids = tokenizer.encode(txt)
        for i in range(0, len(token_ids) - max_length, stride):
            input_chunk = token_ids[i : i + max_length]
            target_chunk = token_ids[i + 1 : i + max_length + 1]
            self.input_ids.append(torch.tensor(input_chunk))
            self.target_ids.append(torch.tensor(target_chunk))

    def __len__(self):
        return len(self.input_ids)

    def __getitem__(self, idx):
        return self.input_ids[idx], self.target_ids[idx]


def create_dataloader_v1(txt, batch_size=4, max_length=8, stride=4, shuffle=True, drop_last=True, num_workers=0):
    dataset = GPTDatasetV1(txt, tokenizer, max_length, stride)
    return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last, num_workers=num_workers)


# The model --------------------------------------------------------------------------------------------


class MultiHeadAttention(nn.Module):
    def __init__(self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False):
        super().__init__()
        assert d_out % num_heads == 0, "d_out must be divisible by num_heads"
        self.d_out, self.num_heads, self.head_dim = d_out, num_heads, d_out // num_heads
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mask", torch.triu(torch.ones(context_length, context_length), diagonal=1))

    def forward(self, x):
        b, num_tokens, d_in = x.shape
        keys = self.W_key(x).view(b, num_tokens, self.num_heads, self.head_dim).transpose(1, 2)
        queries = self.W_query(x).view(b, num_tokens, self.num_heads, self.head_dim).transpose(1, 2)
        values = self.W_value(x).view(b, num_tokens, self.num_heads, self.head_dim).transpose(1, 2)
        attn_scores = queries @ keys.transpose(2, 3)
        attn_scores.masked_fill_(self.mask.bool()[:num_tokens, :num_tokens], -torch.inf)
        attn_weights = self.dropout(torch.softmax(attn_scores / keys.shape[-1] ** 0.5, dim=-1))
        context_vec = (attn_weights @ values).transpose(1, 2)
        return self.out_proj(context_vec.contiguous().view(b, num_tokens, self.d_out))


class LayerNorm(nn.Module):
    def __init__(self, emb_dim):
        super().__init__()
        self.eps = 1e-5
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim))

    def forward(self, x):
        mean = x.mean(dim=-1, keepdim=True)
        var = x.var(dim=-1, keepdim=True, unbiased=False)
        norm_x = (x - mean) / torch.sqrt(var + self.eps)
        return self.scale * norm_x + self.shift


class GELU(nn.Module):
    def forward(self, x):
        # in the dtype of x, because the float32 square root of PyTorch is one bit off
        scale = torch.sqrt(torch.tensor(2.0 / torch.pi, dtype=x.dtype))
        return 0.5 * x * (1 + torch.tanh(scale * (x + 0.044715 * torch.pow(x, 3))))


class FeedForward(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(cfg["emb_dim"], 4 * cfg["emb_dim"]),
            GELU(),
            nn.Linear(4 * cfg["emb_dim"], cfg["emb_dim"]),
        )

    def forward(self, x):
        return self.layers(x)


class TransformerBlock(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.att = MultiHeadAttention(
            d_in=cfg["emb_dim"],
            d_out=cfg["emb_dim"],
            context_length=cfg["context_length"],
            num_heads=cfg["n_heads"],
            dropout=cfg["drop_rate"],
            qkv_bias=cfg["qkv_bias"],
        )
        self.ff = FeedForward(cfg)
        self.norm1 = LayerNorm(cfg["emb_dim"])
        self.norm2 = LayerNorm(cfg["emb_dim"])
        self.drop_shortcut = nn.Dropout(cfg["drop_rate"])

    def forward(self, x):
        shortcut = x
        x = self.norm1(x)
        x = self.att(x)
        x = self.drop_shortcut(x)
        x = x + shortcut
        shortcut = x
        x = self.norm2(x)
        x = self.ff(x)
        x = self.drop_shortcut(x)
        return x + shortcut


class GPTModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.tok_emb = nn.Embedding(cfg["vocab_size"], cfg["emb_dim"])
        self.pos_emb = nn.Embedding(cfg["context_length"], cfg["emb_dim"])
        self.drop_emb = nn.Dropout(cfg["drop_rate"])
        self.trf_blocks = nn.Sequential(*[TransformerBlock(cfg) for _ in range(cfg["n_layers"])])
        self.final_norm = LayerNorm(cfg["emb_dim"])
        self.out_head = nn.Linear(cfg["emb_dim"], cfg["vocab_size"], bias=False)

    def forward(self, in_idx):
        batch_size, seq_len = in_idx.shape
        tok_embeds = self.tok_emb(in_idx)
        pos_embeds = self.pos_emb(torch.arange(seq_len, device=in_idx.device))
        x = tok_embeds + pos_embeds
        x = self.drop_emb(x)
        x = self.trf_blocks(x)
        x = self.final_norm(x)
        return self.out_head(x)


class ExampleDeepNeuralNetwork(nn.Module):
    """What shortcuts do to the gradients of early layers."""

    def __init__(self, layer_sizes, use_shortcut):
        super().__init__()
        self.use_shortcut = use_shortcut
        self.layers = nn.ModuleList(
            [nn.Sequential(nn.Linear(a, b), GELU()) for a, b in zip(layer_sizes[:-1], layer_sizes[1:])]
        )

    def forward(self, x):
        for layer in self.layers:
            layer_output = layer(x)
            if self.use_shortcut and x.shape == layer_output.shape:
                x = x + layer_output
            else:
                x = layer_output
        return x


def gradient_sizes(model, x):
    output = model(x)
    target = torch.tensor([[0.0]], dtype=x.dtype)
    loss = nn.MSELoss()(output, target)
    loss.backward()
    return {name: param.grad.abs().mean().item() for name, param in model.named_parameters() if "weight" in name}


# Generating -------------------------------------------------------------------------------------------


def generate_text_simple(model, idx, max_new_tokens, context_size):
    for _ in range(max_new_tokens):
        idx_cond = idx[:, -context_size:]
        with torch.no_grad():
            logits = model(idx_cond)
        logits = logits[:, -1, :]
        probas = torch.softmax(logits, dim=-1)
        idx_next = torch.argmax(probas, dim=-1, keepdim=True)
        idx = torch.cat((idx, idx_next), dim=1)
    return idx


def generate(model, idx, max_new_tokens, context_size, temperature=0.0, top_k=None, eos_id=None):
    for _ in range(max_new_tokens):
        idx_cond = idx[:, -context_size:]
        with torch.no_grad():
            logits = model(idx_cond)
        logits = logits[:, -1, :]
        if top_k is not None:
            top_logits, top_pos = torch.topk(logits, top_k)
            min_val = top_logits[:, -1]
            logits = torch.where(logits < min_val, torch.tensor(float("-inf")).to(logits.device), logits)
        if temperature > 0.0:
            logits = logits / temperature
            logits = logits - logits.max(dim=-1, keepdim=True).values
            probs = torch.softmax(logits, dim=-1)
            idx_next = torch.multinomial(probs, num_samples=1)
        else:
            idx_next = torch.argmax(logits, dim=-1, keepdim=True)
        if idx_next == eos_id:
            break
        idx = torch.cat((idx, idx_next), dim=1)
    return idx


def text_to_token_ids(text, tokenizer):
    return torch.tensor(tokenizer.encode(text)).unsqueeze(0)


def token_ids_to_text(token_ids, tokenizer):
    return tokenizer.decode(token_ids.squeeze(0).tolist())


# Training ---------------------------------------------------------------------------------------------


def calc_loss_batch(input_batch, target_batch, model, device):
    input_batch, target_batch = input_batch.to(device), target_batch.to(device)
    logits = model(input_batch)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), target_batch.flatten())


def calc_loss_loader(data_loader, model, device, num_batches=None):
    total_loss = 0.0
    if len(data_loader) == 0:
        return float("nan")
    elif num_batches is None:
        num_batches = len(data_loader)
    else:
        num_batches = min(num_batches, len(data_loader))
    for i, (input_batch, target_batch) in enumerate(data_loader):
        if i < num_batches:
            loss = calc_loss_batch(input_batch, target_batch, model, device)
            total_loss += loss.item()
        else:
            break
    return total_loss / num_batches


def evaluate_model(model, train_loader, val_loader, device, eval_iter):
    model.eval()
    with torch.no_grad():
        train_loss = calc_loss_loader(train_loader, model, device, num_batches=eval_iter)
        val_loss = calc_loss_loader(val_loader, model, device, num_batches=eval_iter)
    model.train()
    return train_loss, val_loss


def train_model(model, train_loader, val_loader, optimizer, device, n_epochs, eval_freq, eval_iter, warmup_steps):
    losses, evaluations, track_tokens_seen, track_lrs = [], [], [], []
    tokens_seen, global_step = 0, -1
    peak_lr, initial_lr, min_lr = optimizer.param_groups[0]["lr"], 1e-4, 1e-5
    total_training_steps = len(train_loader) * n_epochs
    lr_increment = (peak_lr - initial_lr) / warmup_steps
    for _ in range(n_epochs):
        model.train()
        for input_batch, target_batch in train_loader:
            optimizer.zero_grad()
            global_step += 1
            if global_step < warmup_steps:
                lr = initial_lr + global_step * lr_increment
            else:
                progress = (global_step - warmup_steps) / (total_training_steps - warmup_steps)
                lr = min_lr + (peak_lr - min_lr) * 0.5 * (1 + math.cos(math.pi * progress))
            for param_group in optimizer.param_groups:
                param_group["lr"] = lr
            track_lrs.append(lr)
            loss = calc_loss_batch(input_batch, target_batch, model, device)
            loss.backward()
            if global_step >= warmup_steps:
                torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            tokens_seen += input_batch.numel()
            losses.append(loss.item())
            if global_step % eval_freq == 0:
                evaluations.append(evaluate_model(model, train_loader, val_loader, device, eval_iter))
                track_tokens_seen.append(tokens_seen)
    return losses, evaluations, track_tokens_seen, track_lrs


# Weights from elsewhere -------------------------------------------------------------------------------


def assign(left, right):
    if left.shape != right.shape:
        raise ValueError(f"Shape mismatch. Left: {left.shape}, Right: {right.shape}")
    return torch.nn.Parameter(torch.tensor(right))


def load_weights_into_gpt(gpt, params):
    gpt.pos_emb.weight = assign(gpt.pos_emb.weight, params["wpe"])
    gpt.tok_emb.weight = assign(gpt.tok_emb.weight, params["wte"])
    for b in range(len(params["blocks"])):
        q_w, k_w, v_w = np.split((params["blocks"][b]["attn"]["c_attn"])["w"], 3, axis=-1)
        gpt.trf_blocks[b].att.W_query.weight = assign(gpt.trf_blocks[b].att.W_query.weight, q_w.T)
        gpt.trf_blocks[b].att.W_key.weight = assign(gpt.trf_blocks[b].att.W_key.weight, k_w.T)
        gpt.trf_blocks[b].att.W_value.weight = assign(gpt.trf_blocks[b].att.W_value.weight, v_w.T)
        q_b, k_b, v_b = np.split((params["blocks"][b]["attn"]["c_attn"])["b"], 3, axis=-1)
        gpt.trf_blocks[b].att.W_query.bias = assign(gpt.trf_blocks[b].att.W_query.bias, q_b)
        gpt.trf_blocks[b].att.W_key.bias = assign(gpt.trf_blocks[b].att.W_key.bias, k_b)
        gpt.trf_blocks[b].att.W_value.bias = assign(gpt.trf_blocks[b].att.W_value.bias, v_b)
    gpt.out_head.weight = assign(gpt.out_head.weight, params["wte"])


def weights_from_elsewhere(cfg, dtype):
    numbers = np.random.default_rng(3)
    made = lambda *shape: numbers.normal(0, 0.1, shape).astype(dtype)
    E = cfg["emb_dim"]
    blocks = [{"attn": {"c_attn": {"w": made(E, 3 * E), "b": made(3 * E)}}} for _ in range(cfg["n_layers"])]
    return {"wpe": made(cfg["context_length"], E), "wte": made(cfg["vocab_size"], E), "blocks": blocks}


# The run ----------------------------------------------------------------------------------------------

file_path = os.path.join(os.path.dirname(__file__), "corpus.txt")
with open(file_path, encoding="utf-8") as file:
    text_data = file.read()
tokenizer = SimpleTokenizer(text_data)

GPT_CONFIG = {
    "vocab_size": len(tokenizer.str_to_int),
    "context_length": 8,
    "emb_dim": 24,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.0,
    "qkv_bias": False,
}


def make_model(dropout=0.0):
    model = GPTModel({**GPT_CONFIG, "drop_rate": dropout})
    model.deep = ExampleDeepNeuralNetwork([3, 3, 3, 3, 1], use_shortcut=True)
    model.plain = ExampleDeepNeuralNetwork([3, 3, 3, 3, 1], use_shortcut=False)
    return model


def train(model):
    device = torch.device("cuda" if torch.cuda.is_available() and "GPT_CUDA" in os.environ else "cpu")
    dtype = model.out_head.weight.dtype
    model.to(device)
    x = torch.tensor([[1.0, 0.0, -1.0]], dtype=dtype)
    shortcuts = gradient_sizes(model.deep, x), gradient_sizes(model.plain, x)
    del model.deep, model.plain

    split_idx = int(0.85 * len(text_data))
    train_loader = create_dataloader_v1(text_data[:split_idx], shuffle=False)
    val_loader = create_dataloader_v1(text_data[split_idx:], shuffle=False, drop_last=False)
    first = next(iter(train_loader))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.1)
    before = generate_text_simple(model.eval(), text_to_token_ids("The miller writes", tokenizer), 6, 8)
    losses, evaluations, seen, lrs = train_model(
        model, train_loader, val_loader, optimizer, device, n_epochs=3, eval_freq=5, eval_iter=2, warmup_steps=4
    )
    model.eval()
    start = text_to_token_ids("The river is high", tokenizer)
    sampled = generate(model, start, 10, 8, temperature=1.4, top_k=5, eos_id=tokenizer.str_to_int["<|endoftext|>"])
    greedy = generate(model, start, 10, 8)

    cfg = {**GPT_CONFIG, "qkv_bias": True}
    gpt = GPTModel(cfg).to(dtype)
    for name, parameter in gpt.named_parameters():  # what the arrays do not hold
        if "ff" in name or "out_proj" in name:
            parameter.data.fill_(0.01)
    load_weights_into_gpt(gpt, weights_from_elsewhere(cfg, str(dtype).split(".")[-1]))
    gpt.eval()
    return {
        "losses": losses,
        "evaluations": evaluations,
        "tokens": seen,
        "lrs": lrs,
        "batches": (len(train_loader), len(val_loader), first),
        "shortcuts": shortcuts,
        "before": token_ids_to_text(before, tokenizer),
        "sampled": token_ids_to_text(sampled, tokenizer),
        "greedy": token_ids_to_text(greedy, tokenizer),
        "loaded": gpt(start),
        "parameters": sum(p.numel() for p in model.parameters()),
        "megabytes": sum(p.numel() * p.element_size() for p in model.parameters()) / (1024 * 1024),
    }
