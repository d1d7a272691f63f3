"""Learning from a reward: `python -m train.arithmetic` teaches a GPT to add by telling it only whether it was right.

Nobody shows it an answer. It draws several answers to each question, and those that were better than the others of
their group become likelier. It starts from random weights.

Sources: Williams, *Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning* (1992),
for REINFORCE with a baseline; Shao et al., *DeepSeekMath* (2024), section 4.1, for the groups of GRPO, each used for
one step here, so that the paper's ratio of new to old probabilities is 1 and nothing is clipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

import tensorlite as tl
from gpt.checkpoint import load_model, save_model
from gpt.generate import generate
from gpt.model import GPT
from gpt.options import UsageError, option, run, to_json
from gpt.tokenizer import CharacterTokenizer
from tensorlite import Tensor
from train import checkpoint
from train.loop import Loop, Task
from train.preference import log_probabilities
from train.recipe import Recipe, Shape, check_device, configured
from train.report import accuracy_curve
from train.run import Run, unused

Baseline = Literal["group", "mean", "none"]


@dataclass(frozen=True)
class Config(Shape, Recipe):
    digits: int = option(1, "digits of the numbers; the answer is the end of their sum, so many digits of it")
    group: int = option(16, "answers drawn to each question")
    baseline: Baseline = option(
        "group",
        "what a reward is held against: the mean of its group in units of its spread (GRPO), the mean of all answers, "
        "or nothing (plain REINFORCE)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "digits")
        self.at_least(2, "group")
        if self.digits > 3:
            raise UsageError(f"--digits is at most 3, not {self.digits}: the chance of a right guess is then too small")
        if self.context_length < 4 * self.digits + 2:
            raise UsageError(f"--context-length is too short for {4 * self.digits + 2} characters; raise it")
        self.model(1)


DEFAULT = Config(
    n_layer=2,
    n_embd=64,
    context_length=8,
    init_std=0.07,
    bias=True,
    qkv_bias=True,
    steps=400,
    batch_size=32,
    lr=1e-3,
    min_lr=1e-4,
    warmup=20,
    weight_decay=0.0,
    eval_every=50,
    seed=123,
)
TOKENIZER = CharacterTokenizer.train("0123456789+=")


@dataclass(frozen=True)
class Problems:
    """All sums of two numbers of so many digits: `3+4=`, to which 7 is right; `7+8=`, to which 5 is.

    questions  (N, Q) token ids
    answers    (N, digits) token ids
    """

    questions: np.ndarray
    answers: np.ndarray

    @classmethod
    def of(cls, digits: int) -> Problems:
        size = 10**digits
        pairs = [(a, b) for a in range(size) for b in range(size)]
        questions = [TOKENIZER.encode(f"{a:0{digits}}+{b:0{digits}}=") for a, b in pairs]
        answers = [TOKENIZER.encode(f"{(a + b) % size:0{digits}}") for a, b in pairs]
        return cls(np.array(questions, np.int64), np.array(answers, np.int64))


def advantages(rewards: np.ndarray, baseline: Baseline) -> np.ndarray:
    """How much better an answer was than was to be expected: (B, G) rewards of G answers to B questions -> (B, G)."""
    if baseline == "none":
        return rewards
    if baseline == "mean":
        return rewards - rewards.mean()
    spread = rewards.std(axis=1, keepdims=True)
    return (rewards - rewards.mean(axis=1, keepdims=True)) / (spread + 1e-4)  # 0 where all are alike


def policy_loss(model: GPT, questions: Tensor, answers: Tensor, advantage: Tensor) -> Tensor:
    """The mean of -advantage log p(answer), whose slope is that of the expected reward, with the sign of a loss.

    questions (N, Q), answers (N, A) drawn from the model, advantage (N,)
    """
    ids = tl.cat([questions, answers], dim=1)  # (N, Q + A)
    asked = tl.full_like(questions[:, 1:], -100)  # a question is given, not said
    targets = tl.cat([asked, answers], dim=1)  # (N, Q + A - 1)
    return -(advantage * log_probabilities(model, ids[:, :-1], targets)).mean()


def main(argv: Sequence[str]) -> None:
    about = "Teach a GPT to add by rewards alone."
    config = configured(Config, argv, {"sums": DEFAULT}, "sums", "arithmetic", about)
    check_device(config.device)
    if (folder := config.resume) is None:
        tl.manual_seed(config.seed)
        out = Run.create(config.out or unused(Path("runs/arithmetic")), to_json(config))
        TOKENIZER.save(out.path / "tokenizer.json")
        train(config, GPT(config.model(TOKENIZER.vocab_size)), out, {})
    else:
        saved, state = checkpoint.load(folder)
        try:
            model = load_model(saved / "model.safetensors")
        except (OSError, ValueError) as error:
            raise UsageError(f"--resume {folder}: {error}") from None
        train(config, model, Run.open(folder, state["step"]), state)


def train(config: Config, model: GPT, out: Run, state: dict[str, Any]) -> None:
    """Train `model`, from the beginning or from `state`."""
    problems = Problems.of(config.digits)
    count = len(problems.questions)
    generator = tl.Generator().manual_seed(config.seed)
    loader = tl.data.DataLoader(
        range(count),
        batch_size=min(config.batch_size, count),
        shuffle=True,
        drop_last=True,
        collate_fn=np.array,
        generator=generator,
    )
    recent: list[float] = []  # the mean reward of each step since the last evaluation

    def loss(numbers: np.ndarray) -> Tensor:
        rows = np.repeat(numbers, config.group)  # (N,), N = B G
        questions = tl.from_numpy(problems.questions[rows]).to(config.device)  # (N, Q)
        answers = generate(model, questions, config.digits)[:, questions.shape[1] :]  # (N, A), drawn
        right = (answers.cpu().numpy() == problems.answers[rows]).all(axis=1)  # (N,)
        rewards = right.reshape(-1, config.group).astype(np.float32)  # (B, G)
        recent.append(float(rewards.mean()))
        advantage = tl.from_numpy(advantages(rewards, config.baseline).reshape(-1)).to(config.device)  # (N,)
        return policy_loss(model, questions, answers, advantage)

    def evaluate(step: int, last: bool) -> dict[str, float]:
        mean = float(np.mean(recent)) if recent else accuracy(model, problems, config, 1.0)
        recent.clear()
        return {"train_accuracy": mean, "val_accuracy": accuracy(model, problems, config, 0.0)}

    task = Task(
        model,
        loader,
        loss,
        count=lambda numbers: len(numbers) * config.group * config.digits,
        evaluate=evaluate,
        write=lambda model, folder: save_model(model, folder / "model.safetensors"),
    )
    loop = Loop(task, config, out, state)
    print(f"sums      {count:,} of numbers with {config.digits} digit{'s' * (config.digits > 1)}")
    print(f"model     {model.num_parameters():,} parameters, random weights")
    print(f"training  {loop.steps:,} steps of {loader.batch_size} questions, {config.group} answers to each")
    finished = loop.train()
    chance = TOKENIZER.vocab_size**-config.digits
    names = ("reward of drawn answers", "the likeliest answer to each question")
    accuracy_curve(out.metrics, out.path / "reward.png", "sums, learned from rewards", chance, "guesses", names)
    if not finished:
        print(f"stopped after step {loop.step:,} of {loop.steps:,}; everything is saved in {out.path}")
        print(f"train on  python -m train.arithmetic --resume {out.path}")
        return
    minutes, seconds = divmod(round(loop.seconds), 60)
    print(f"done      {loop.step:,} steps in {minutes} min {seconds} s of training")
    print(f"reward    {accuracy(model, problems, config, 1.0):.2%} of drawn answers, by chance {chance:.2%}")
    print(f"right     {accuracy(model, problems, config, 0.0):.2%} of the likeliest answers")
    print(f"wrote     {out.path}/: reward.png, metrics.jsonl, checkpoints/")


def accuracy(model: GPT, problems: Problems, config: Config, temperature: float) -> float:
    """The share of right answers to at most 1,000 problems, evenly spread; its random numbers are its own."""
    chosen = np.linspace(0, len(problems.questions) - 1, min(1000, len(problems.questions))).astype(int)
    questions = tl.from_numpy(problems.questions[chosen]).to(config.device)
    drawn = tl.Generator().manual_seed(config.seed)
    said = generate(model, questions, config.digits, temperature, generator=drawn)[:, questions.shape[1] :]
    return float((said.cpu().numpy() == problems.answers[chosen]).all(axis=1).mean())


if __name__ == "__main__":
    run(main, "arithmetic")
