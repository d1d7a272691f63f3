"""Fine-tuning a small GPT: classification with frozen layers, instructions with masked targets, LoRA, preferences."""

import copy
import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

VOCAB, CONTEXT, EMB, PAD = 40, 16, 24, 39


class Attention(nn.Module):
    def __init__(self, emb_dim, n_heads, dropout):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(emb_dim, 3 * emb_dim, bias=False)
        self.out_proj = nn.Linear(emb_dim, emb_dim)
        self.dropout = dropout

    def forward(self, x):
        b, t, e = x.shape
        qkv = self.qkv(x).view(b, t, 3, self.n_heads, e // self.n_heads).permute(2, 0, 3, 1, 4)
        queries, keys, values = qkv
        dropout_p = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout_p, is_causal=True)
        return self.out_proj(x.transpose(1, 2).reshape(b, t, e))


class TransformerBlock(nn.Module):
    def __init__(self, emb_dim, n_heads, dropout):
        super().__init__()
        self.norm1 = nn.LayerNorm(emb_dim)
        self.att = Attention(emb_dim, n_heads, dropout)
        self.norm2 = nn.LayerNorm(emb_dim)
        self.ff = nn.Sequential(
            nn.Linear(emb_dim, 2 * emb_dim), nn.GELU(approximate="tanh"), nn.Linear(2 * emb_dim, emb_dim)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        x = x + self.drop(self.att(self.norm1(x)))
        return x + self.drop(self.ff(self.norm2(x)))


class GPTModel(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.tok_emb = nn.Embedding(VOCAB, EMB)
        self.pos_emb = nn.Embedding(CONTEXT, EMB)
        self.drop_emb = nn.Dropout(dropout)
        self.trf_blocks = nn.Sequential(*[TransformerBlock(EMB, 4, dropout) for _ in range(2)])
        self.final_norm = nn.LayerNorm(EMB)
        self.out_head = nn.Linear(EMB, VOCAB, bias=False)

    def forward(self, in_idx):
        x = self.tok_emb(in_idx) + self.pos_emb(torch.arange(in_idx.shape[1], device=in_idx.device))
        x = self.trf_blocks(self.drop_emb(x))
        return self.out_head(self.final_norm(x))


# Classification ---------------------------------------------------------------------------------------


class SpamDataset(Dataset):
    """Texts cut or padded to one length, and whether the token 7 is in them."""

    def __init__(self, texts, max_length=None, pad_token_id=PAD):
        self.labels = [int(7 in text) for text in texts]
        self.encoded_texts = texts
        if max_length is None:
            self.max_length = self._longest_encoded_length()
        else:
            self.max_length = max_length
            self.encoded_texts = [encoded_text[: self.max_length] for encoded_text in self.encoded_texts]
        self.encoded_texts = [
            encoded_text + [pad_token_id] * (self.max_length - len(encoded_text)) for encoded_text in self.encoded_texts
        ]

    def __getitem__(self, index):
        encoded = self.encoded_texts[index]
        label = self.labels[index]
        return (torch.tensor(encoded, dtype=torch.long), torch.tensor(label, dtype=torch.long))

    def __len__(self):
        return len(self.labels)

    def _longest_encoded_length(self):
        return max(len(encoded_text) for encoded_text in self.encoded_texts)


def texts(count, first):
    return [[(first + 3 * i * i + j * (i + 1)) % 11 for j in range(4 + i % 5)] for i in range(count)]


def calc_accuracy_loader(data_loader, model, device, num_batches=None):
    model.eval()
    correct_predictions, num_examples = 0, 0
    num_batches = len(data_loader) if num_batches is None else min(num_batches, len(data_loader))
    for i, (input_batch, target_batch) in enumerate(data_loader):
        if i < num_batches:
            input_batch, target_batch = input_batch.to(device), target_batch.to(device)
            with torch.no_grad():
                logits = model(input_batch)[:, -1, :]
            predicted_labels = torch.argmax(logits, dim=-1)
            num_examples += predicted_labels.shape[0]
            correct_predictions += (predicted_labels == target_batch).sum().item()
        else:
            break
    return correct_predictions / num_examples


def classify(model, device):
    dtype = model.out_head.weight.dtype
    for param in model.parameters():
        param.requires_grad = False
    model.out_head = torch.nn.Linear(in_features=EMB, out_features=2)
    with torch.no_grad():  # the same start everywhere
        model.out_head.weight.copy_(torch.arange(2 * EMB).mul(7).remainder(11).view(2, EMB) / 32 - 0.15)
        model.out_head.bias.zero_()
    model.to(dtype)
    for param in model.trf_blocks[-1].parameters():
        param.requires_grad = True
    for param in model.final_norm.parameters():
        param.requires_grad = True
    train_dataset = SpamDataset(texts(20, 1))
    val_dataset = SpamDataset(texts(9, 5), max_length=train_dataset.max_length)
    train_loader = DataLoader(dataset=train_dataset, batch_size=4, shuffle=False, num_workers=0, drop_last=True)
    val_loader = DataLoader(dataset=val_dataset, batch_size=4, num_workers=0, drop_last=False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3, weight_decay=0.1)
    losses = []
    for _ in range(4):
        model.train()
        for input_batch, target_batch in train_loader:
            optimizer.zero_grad()
            logits = model(input_batch)[:, -1, :]
            loss = torch.nn.functional.cross_entropy(logits, target_batch)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return {
        "losses": losses,
        "accuracy": [calc_accuracy_loader(loader, model, device) for loader in (train_loader, val_loader)],
        "length": train_dataset.max_length,
        "last batch": [tuple(x.shape) for x in list(val_loader)[-1]],
        "trained": [name for name, p in model.named_parameters() if p.grad is not None],
    }


# Instructions -----------------------------------------------------------------------------------------


class InstructionDataset(Dataset):
    def __init__(self, data):
        self.encoded_texts = [instruction + [36] + response for instruction, response in data]

    def __getitem__(self, index):
        return self.encoded_texts[index]

    def __len__(self):
        return len(self.encoded_texts)


def custom_collate_fn(batch, pad_token_id=PAD, ignore_index=-100, allowed_max_length=None, device="cpu"):
    batch_max_length = max(len(item) + 1 for item in batch)
    inputs_lst, targets_lst = [], []
    for item in batch:
        new_item = item.copy()
        new_item += [pad_token_id]
        padded = new_item + [pad_token_id] * (batch_max_length - len(new_item))
        inputs = torch.tensor(padded[:-1])
        targets = torch.tensor(padded[1:])
        mask = targets == pad_token_id
        indices = torch.nonzero(mask).squeeze()
        if indices.numel() > 1:
            targets[indices[1:]] = ignore_index
        if allowed_max_length is not None:
            inputs = inputs[:allowed_max_length]
            targets = targets[:allowed_max_length]
        inputs_lst.append(inputs)
        targets_lst.append(targets)
    return torch.stack(inputs_lst).to(device), torch.stack(targets_lst).to(device)


def instruct(model, device):
    data = [([i % 9, (i * i) % 9], [(i + 1) % 9] * (1 + i % 4)) for i in range(12)]
    customized_collate_fn = partial(custom_collate_fn, device=device, allowed_max_length=CONTEXT)
    loader = DataLoader(
        InstructionDataset(data),
        batch_size=4,
        collate_fn=customized_collate_fn,
        shuffle=False,
        drop_last=True,
        num_workers=0,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.1)
    losses = []
    for _ in range(4):
        for input_batch, target_batch in loader:
            optimizer.zero_grad()
            logits = model(input_batch)
            loss = F.cross_entropy(logits.flatten(0, 1), target_batch.flatten())
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return {"losses": losses, "batch": next(iter(loader))}


# LoRA -------------------------------------------------------------------------------------------------


class LoRALayer(torch.nn.Module):
    def __init__(self, in_dim, out_dim, rank, alpha):
        super().__init__()
        self.A = torch.nn.Parameter(torch.empty(in_dim, rank))
        torch.nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.B = torch.nn.Parameter(torch.zeros(rank, out_dim))
        self.alpha = alpha

    def forward(self, x):
        return self.alpha * (x @ self.A @ self.B)


class LinearWithLoRA(torch.nn.Module):
    def __init__(self, linear, rank, alpha):
        super().__init__()
        self.linear = linear
        self.lora = LoRALayer(linear.in_features, linear.out_features, rank, alpha)

    def forward(self, x):
        return self.linear(x) + self.lora(x)


def replace_linear_with_lora(model, rank, alpha):
    for name, module in model.named_children():
        if isinstance(module, torch.nn.Linear):
            setattr(model, name, LinearWithLoRA(module, rank, alpha))
        else:
            replace_linear_with_lora(module, rank, alpha)


def lora(model, inputs):
    dtype = model.out_head.weight.dtype
    model.eval()
    with torch.no_grad():
        before = model(inputs)
    for param in model.parameters():
        param.requires_grad = False
    frozen = sum(p.numel() for p in model.parameters() if p.requires_grad)
    replace_linear_with_lora(model, rank=4, alpha=8)
    model.to(dtype)
    largest = [p.abs().max().item() <= 1 / math.sqrt(4) for n, p in model.named_parameters() if n.endswith("lora.A")]
    for name, param in model.named_parameters():
        if name.endswith("lora.A"):
            param.data = torch.linspace(-0.1, 0.1, param.numel(), dtype=dtype).reshape(param.shape)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    unchanged = torch.equal(model(inputs), before)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    model.train()
    for _ in range(10):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs[:, :-1]).flatten(0, 1), inputs[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {
        "losses": losses,
        "counts": (frozen, trainable),
        "unchanged": unchanged,
        "within": all(largest),
        "keys": list(model.state_dict()),
    }


# Preferences ------------------------------------------------------------------------------------------


def compute_dpo_loss(policy_chosen, policy_rejected, reference_chosen, reference_rejected, beta=0.1):
    model_logratios = policy_chosen - policy_rejected
    reference_logratios = reference_chosen - reference_rejected
    logits = model_logratios - reference_logratios
    losses = -F.logsigmoid(beta * logits)
    chosen_rewards = (policy_chosen - reference_chosen).detach()
    rejected_rewards = (policy_rejected - reference_rejected).detach()
    return losses.mean(), chosen_rewards.mean(), rejected_rewards.mean()


def compute_logprobs(logits, labels, selection_mask=None):
    labels = labels[:, 1:].clone()
    logits = logits[:, :-1, :]
    log_probs = F.log_softmax(logits, dim=-1)
    selected_log_probs = torch.gather(input=log_probs, dim=-1, index=labels.unsqueeze(-1)).squeeze(-1)
    if selection_mask is not None:
        mask = selection_mask[:, 1:].clone()
        selected_log_probs = selected_log_probs * mask
        return selected_log_probs.sum(-1) / (mask.sum(-1) + 1e-8)
    return selected_log_probs.mean(-1)


def prefer(policy_model, dtype):
    reference_model = copy.deepcopy(policy_model)
    reference_model.eval()
    for p in reference_model.parameters():
        p.requires_grad_(False)
    chosen = torch.tensor([[1, 2, 3, 4, 5, PAD], [6, 7, 8, 9, 10, 11]])
    rejected = torch.tensor([[1, 2, 5, 4, PAD, PAD], [6, 7, 11, 10, 9, PAD]])
    masks = []
    for batch in (chosen, rejected):
        mask = torch.ones_like(batch).bool()
        mask[batch == PAD] = False
        mask[:, :2] = False  # the prompt
        masks.append(mask)
    optimizer = torch.optim.AdamW(policy_model.parameters(), lr=2e-3, weight_decay=0.01)
    losses, margins = [], []
    for _ in range(8):
        policy = [compute_logprobs(policy_model(batch), batch, mask) for batch, mask in zip((chosen, rejected), masks)]
        with torch.no_grad():
            reference = [
                compute_logprobs(reference_model(batch), batch, mask) for batch, mask in zip((chosen, rejected), masks)
            ]
        loss, chosen_reward, rejected_reward = compute_dpo_loss(*policy, *reference, beta=0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        margins.append((chosen_reward - rejected_reward).item())
    without_mask = compute_logprobs(policy_model(chosen), chosen)
    return {"losses": losses, "margins": margins, "masks": masks, "mean": without_mask}


# The run ----------------------------------------------------------------------------------------------


def make_model(dropout=0.0):
    return GPTModel(dropout)


def train(model):
    device = torch.device("cpu")
    model.to(device)
    fresh = [copy.deepcopy(model) for _ in range(3)]
    instructed = instruct(model, device)
    inputs = torch.tensor([[1, 5, 2, 6, 3, 7, 4, 8], [8, 4, 7, 3, 6, 2, 5, 1]])
    return {
        "losses": instructed["losses"],
        "instructed": instructed,
        "classified": classify(fresh[0], device),
        "adapted": lora(fresh[1], inputs),
        "preferred": prefer(fresh[2], model.out_head.weight.dtype),
    }
