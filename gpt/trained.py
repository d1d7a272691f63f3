"""A trained model with its tokenizer, by the name that a person gives it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt.model import GPT
from gpt.options import UsageError, option
from gpt.tokenizer import GPT2Tokenizer, Tokenizer, load_tokenizer
from gpt.weights import load


@dataclass(frozen=True)
class Trained:
    """The options by which every script is told what model to use."""

    model: str | None = option(None, "a run's folder, runs/NAME; gpt2, gpt2-medium …; or a file or folder with weights")
    device: str = option("cpu", "where to compute: cpu, cuda or cuda:N")

    def load(self) -> tuple[GPT, Tokenizer]:
        """The model on its device, and its tokenizer. UsageError says what is missing or broken."""
        if self.model is None:
            raise UsageError("--model is missing: name the folder of a training run, --model runs/NAME, or say gpt2")
        model, tokenizer = trained(self.model, "--model")
        try:
            return model.to(self.device), tokenizer
        except (RuntimeError, ValueError) as error:
            raise UsageError(f"--device {self.device}: {error}") from error


def trained(source: str, flag: str, **changes: Any) -> tuple[GPT, Tokenizer]:
    """The model that `gpt.weights.load` finds there, with these `changes` of its configuration, and the tokenizer that
    lies beside it; GPT-2's for its published weights. UsageError, which begins with `flag`, where either is missing or
    they do not fit."""
    try:
        model = load(source, **changes)
        tokenizer = _tokenizer(Path(source), model)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{flag} {source}: {error}") from error
    if tokenizer.vocab_size > model.config.vocab_size:
        raise UsageError(
            f"{flag} {source}: its tokenizer has {tokenizer.vocab_size:,} tokens and the model "
            f"{model.config.vocab_size:,}, so some are outside its vocabulary; one of the two is another run's"
        )
    return model, tokenizer


def _tokenizer(source: Path, model: GPT) -> Tokenizer:
    folder = source if source.is_dir() else source.parent
    if folder.parent.name == "checkpoints":  # one of a run's models, the best say
        folder = folder.parents[1]
    if source.exists() and (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        return load_tokenizer(folder / "tokenizer.json")  # with a vocab.json it is the hub's, of another form
    if (folder / "checkpoints").is_dir():
        raise FileNotFoundError(f"the run's tokenizer is missing: there is no {folder / 'tokenizer.json'}")
    return GPT2Tokenizer()
