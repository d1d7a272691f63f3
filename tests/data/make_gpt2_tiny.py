"""Makes tests/data/gpt2-tiny/: a GPT-2 of 2,080 random numbers as transformers writes it, and what PyTorch computes.

    python tests/data/make_gpt2_tiny.py        # needs pip install 'tensorlite[oracle]'

reference.npz holds, in float64, token ids and targets, the logits, the loss, and the gradient of every parameter under
transformers' names.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

FOLDER = Path(__file__).parent / "gpt2-tiny"


def main() -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=32, n_positions=8, n_embd=8, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)  # so that no bias is 0 and no scale 1
    model.save_pretrained(FOLDER)
    (FOLDER / "generation_config.json").unlink(missing_ok=True)
    model.double()
    idx, targets = torch.randint(32, (2, 2, 8))
    targets[0, :3] = -100
    logits = model(idx).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    gradients = {f"grad {name}": x.grad.numpy() for name, x in model.named_parameters()}
    results = {"idx": idx.numpy(), "targets": targets.numpy(), "logits": logits.detach().numpy(), "loss": loss.item()}
    np.savez_compressed(FOLDER / "reference.npz", **results, **gradients)


if __name__ == "__main__":
    main()
