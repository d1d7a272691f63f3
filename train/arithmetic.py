"""Learning from a reward: `python -m train.arithmetic` teaches a GPT to add by telling it only whether it was right.

Nobody shows it an answer. It draws several answers to each question, and those that were better than the others of
their group become likelier. It starts from random weights.

With one update of the model for each set of answers that is plain REINFORCE; with several, and held to the model that
it started from, it is all of GRPO (train/policy.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

import tensorlite as tl
from gpt.checkpoint import load_model, save_model
from gpt.generate import generate
from gpt.model import GPT
from gpt.options import UsageError, option, run, to_json
from gpt.sequences import evaluating
from gpt.tokenizer import CharacterTokenizer
from tensorlite import Tensor
from train import checkpoint
from train.collate import IGNORED
from train.loop import Loop, Task
from train.pictures import accuracy_curve
from train.policy import Baseline, advantages, policy_loss
from train.preference import token_log_probabilities
from train.recipe import Recipe, Shape, check_device, configured
from train.run import Run, unused


@dataclass(frozen=True)
class Config(Shape, Recipe):
    digits: int = option(1, "digits of the numbers; the answer is the end of their sum, so many digits of it")
    group: int = option(16, "answers drawn to each question")
    baseline: Baseline = option(
        "group",
        "what a reward is held against: the mean of its group in units of its spread (GRPO), the mean of all answers, "
        "or nothing (plain REINFORCE)",
    )
    updates: int = option(1, "steps that learn from the same answers; with 1 nothing is ever clipped")
    clip_ratio: float = option(0.2, "how far from 1 the ratio of new to old probabilities may take an answer's token")
    kl: float = option(0.0, "how strongly the model is held to the one that it started from; GRPO's paper has 0.04")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "digits", "updates")
        self.at_least(0, "kl")
        self.at_least(2, "group")
        if not 0 < self.clip_ratio < 1:
            raise UsageError(f"--clip-ratio is above 0 and below 1, not {self.clip_ratio}")
        if self.updates > 1 and self.accumulation > 1:
            raise UsageError("--updates above 1 does not go with --accumulation; raise --batch-size instead")
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
INITIAL = "initial.safetensors"  # the reference of --kl
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


@dataclass(frozen=True)
class Drawn:
    """Answers, and what is known of them.

    questions, answers  (N, Q), (N, A) token ids
    advantage           (N,), how much better each was than expected
    old                 (N, A) log-probabilities under the model that drew them; None if they are used once
    reference           (N, A) under the model that it started from; None without --kl
    """

    questions: Tensor
    answers: Tensor
    advantage: Tensor
    old: Tensor | None
    reference: Tensor | None


def answer_log_probabilities(model: GPT, questions: Tensor, answers: Tensor) -> Tensor:
    """(N, A) log-probabilities of the tokens of answers (N, A) to questions (N, Q)."""
    ids = tl.cat([questions, answers], dim=1)  # (N, Q + A)
    asked = tl.full_like(questions[:, 1:], IGNORED)  # a question is given, not said
    targets = tl.cat([asked, answers], dim=1)  # (N, Q + A - 1)
    return token_log_probabilities(model, ids[:, :-1], targets)[:, asked.shape[1] :]


class Repeated:
    """A batch sampler that gives each batch of another so many times in a row."""

    def __init__(self, batches: tl.data.BatchSampler, times: int):
        self.batches, self.times = batches, times

    def __len__(self) -> int:
        return len(self.batches) * self.times

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            yield from [batch] * self.times


class Answers:
    """Draws answers from `model`, and keeps each set for as many steps as config.updates says.

    reference  the model at the start of the run; None where it is not asked for
    used       steps that have learned from `drawn`
    """

    def __init__(self, model: GPT, reference: GPT | None, problems: Problems, config: Config):
        self.model, self.reference, self.problems, self.config = model, reference, problems, config
        self.drawn: Drawn | None = None
        self.used = 0
        self.rewards: list[float] = []  # the mean reward of each set since somebody took them

    def to(self, numbers: np.ndarray) -> Drawn:
        """Answers to these problems, new ones or the last."""
        if self.drawn is None or self.used == self.config.updates:
            self.drawn, self.used = self._draw(numbers), 0
        self.used += 1
        return self.drawn

    @tl.no_grad()
    def _draw(self, numbers: np.ndarray) -> Drawn:
        config, problems = self.config, self.problems
        rows = np.repeat(numbers, config.group)  # (N,), N = B G
        questions = tl.from_numpy(problems.questions[rows]).to(config.device)  # (N, Q)
        answers = generate(self.model, questions, config.digits)[:, questions.shape[1] :]  # (N, A)
        right = (answers.cpu().numpy() == problems.answers[rows]).all(axis=1)  # (N,)
        rewards = right.reshape(-1, config.group).astype(np.float32)  # (B, G)
        self.rewards.append(float(rewards.mean()))
        advantage = tl.from_numpy(advantages(rewards, config.baseline).reshape(-1)).to(config.device)  # (N,)
        old = reference = None
        if config.updates > 1:
            with evaluating(self.model):
                old = answer_log_probabilities(self.model, questions, answers)  # (N, A)
        if self.reference is not None:
            reference = answer_log_probabilities(self.reference, questions, answers)  # (N, A)
        return Drawn(questions, answers, advantage, old, reference)

    def state_dict(self) -> dict[str, Any]:
        """Where the next step learns from the same answers, they are part of a checkpoint."""
        if self.drawn is None or self.used == self.config.updates:
            return {"used": 0, "drawn": {}}
        known = {f.name: getattr(self.drawn, f.name) for f in fields(Drawn)}
        return {"used": self.used, "drawn": {name: x for name, x in known.items() if x is not None}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        kept = {name: x.to(self.config.device) for name, x in state["drawn"].items()}
        self.used, self.drawn = state["used"], Drawn(**{"old": None, "reference": None} | kept) if kept else None


def configuration(argv: Sequence[str]) -> Config:
    """What the command line asks for."""
    about = "Teach a GPT to add by rewards alone."
    return configured(Config, argv, {"sums": DEFAULT}, "sums", "arithmetic", about)


def main(argv: Sequence[str]) -> None:
    config = configuration(argv)
    check_device(config.device)
    if (folder := config.resume) is None:
        tl.manual_seed(config.seed)
        out = Run.create(config.out or unused(Path("runs/arithmetic")), to_json(config))
        TOKENIZER.save(out.path / "tokenizer.json")
        model = GPT(config.model(TOKENIZER.vocab_size))
        if config.kl:
            save_model(model, out.path / INITIAL)
        train(config, model, out, {})
    else:
        saved, state = checkpoint.load(folder)
        try:
            model = load_model(saved / "model.safetensors")
        except (OSError, ValueError) as error:
            raise UsageError(f"--resume {folder}: {error}") from None
        train(config, model, Run.open(folder, state["step"]), state)


def initial(config: Config, out: Run) -> GPT:
    """The model that the run began with. Raises UsageError if it cannot be read."""
    try:
        return load_model(out.path / INITIAL).to(config.device).eval()
    except (OSError, ValueError) as error:
        raise UsageError(f"--resume {out.path}: {error}") from None


def train(config: Config, model: GPT, out: Run, state: dict[str, Any]) -> None:
    """Train `model`, from the beginning or from `state`."""
    problems = Problems.of(config.digits)
    count = len(problems.questions)
    answers = Answers(model, initial(config, out) if config.kl else None, problems, config)
    generator = tl.Generator().manual_seed(config.seed)
    order = tl.data.RandomSampler(range(count), generator=generator)
    batches = tl.data.BatchSampler(order, min(config.batch_size, count), drop_last=True)
    loader = tl.data.DataLoader(
        range(count), batch_sampler=Repeated(batches, config.updates), collate_fn=np.array, generator=generator
    )

    def loss(numbers: np.ndarray) -> Tensor:
        drawn = answers.to(numbers)
        new = answer_log_probabilities(model, drawn.questions, drawn.answers)  # (N, A)
        return policy_loss(new, drawn.old, drawn.advantage, config.clip_ratio, drawn.reference, config.kl)

    def evaluate(step: int, last: bool) -> dict[str, float]:
        mean = float(np.mean(answers.rewards)) if answers.rewards else accuracy(model, problems, config, 1.0)
        answers.rewards.clear()
        return {"train_accuracy": mean, "val_accuracy": accuracy(model, problems, config, 0.0)}

    task = Task(
        model,
        loader,
        loss,
        count=lambda numbers: len(numbers) * config.group * config.digits,
        evaluate=evaluate,
        write=lambda model, folder: save_model(model, folder / "model.safetensors"),
        parts={"answers": answers},
    )
    loop = Loop(task, config, out, state)
    print(f"sums      {count:,} of numbers with {config.digits} digit{'s' * (config.digits > 1)}")
    print(f"model     {model.num_parameters():,} parameters, random weights")
    print(f"training  {loop.steps:,} steps of {batches.batch_size} questions, {config.group} answers to each")
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
