"""From dialogues to batches: tokens, and targets that count only where something is to be learned."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

import tensorlite as tl
from gpt.options import UsageError
from gpt.template import Template
from gpt.tokenizer import Tokenizer
from train.batching import pad
from train.instructions import Dialogue

IGNORED = -100  # what cross_entropy leaves out


@dataclass(frozen=True)
class Sample:
    """The tokens of a dialogue, (n,), and which of them are answers, (n,) booleans. What ends it comes in `collate`."""

    ids: np.ndarray
    answer: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def encode(dialogue: Dialogue, template: Template, tokenizer: Tokenizer) -> Sample:
    """The whole text is encoded at once, as in the book. A token is an answer's if it begins after its question.

    Raises UsageError that says where a text stands which the tokenizer cannot encode.
    """
    turns = dialogue.turns
    try:
        ends: list[tuple[int, int]] = []  # of each question and its answer, in tokens
        for i, turn in enumerate(turns, 1):
            question = template.question(turns[:i], dialogue.system)
            text = question + template.answer(turn)
            ids = tokenizer.encode_array(text)
            ends.append((len(tokenizer.encode_array(question)), len(ids)))
    except ValueError as error:
        raise UsageError(f"{dialogue.where}: {error}") from None
    answer = np.zeros(len(ids), bool)
    for start, stop in ends:
        answer[start:stop] = True
    return Sample(ids.astype(np.int64), answer)


def fitting(samples: Iterable[Sample], limit: int, name: str) -> list[Sample]:
    """The samples of which an answer begins within `limit` tokens; says on stderr how many are cut or left out."""
    samples = list(samples)
    kept = [sample for sample in samples if sample.answer[:limit].any()]
    if longer := sum(len(sample) > limit for sample in samples):
        lost = len(samples) - len(kept)
        left_out = f"; {lost:,} of these have no answer before that and are left out" if lost else ""
        cut = f"{longer:,} of {len(samples):,} {name} texts are longer than {limit} tokens: cut there{left_out}"
        print(cut, file=sys.stderr)
    if not kept:
        raise UsageError(f"no answer of the {name} part begins within the model's {limit} tokens")
    return kept


def pack(
    samples: Sequence[Sample], end: int, mask_prompt: bool = False, longest: int | None = None
) -> tuple[tl.Tensor, tl.Tensor, list[int]]:
    """What `collate` gives, without padding: inputs and targets, (1, T) int64 each, of all samples end to end, and how
    long each is, from which the model knows where one ends."""
    alone = [collate([sample], end, mask_prompt, longest) for sample in samples]  # (1, t) each
    inputs, targets = (tl.cat(parts, dim=1) for parts in zip(*alone, strict=True))  # (1, T)
    return inputs, targets, [part.shape[1] for part, _ in alone]


def collate(
    samples: Sequence[Sample], end: int, mask_prompt: bool = False, longest: int | None = None
) -> tuple[tl.Tensor, tl.Tensor]:
    """Inputs and targets, (B, T) int64 each, T the length of the longest sample.

    After each sample comes the token `end`, which the model shall learn to say, and then padding, which it shall not:
    the inputs are filled up with `end`, the targets, one token ahead, with -100.

    mask_prompt  let only answers count: a target that is part of a question becomes -100 too
    longest      cut to so many tokens

    The book's custom_collate_fn (section 7.3), which this equals bit for bit.
    """
    rows = [np.append(sample.ids, end) for sample in samples]
    width = max(map(len, rows))
    inputs, targets = pad(rows, end, width)[:, :-1], pad(rows, IGNORED, width)[:, 1:]
    if mask_prompt:
        counts = pad([np.append(sample.answer, True) for sample in samples], 0, width)[:, 1:].astype(bool)
        targets = np.where(counts, targets, IGNORED)
    return tl.from_numpy(inputs[:, :longest].copy()), tl.from_numpy(targets[:, :longest].copy())
