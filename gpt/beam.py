"""Beam search: not the likeliest token each time, but the likeliest sequence that a few parallel ones lead to.

    best, *others = beam_search(model, prompt, max_new_tokens=20, num_beams=4, eos_id=50256)

Of all continuations of `num_beams` sequences by one token, the `num_beams` likeliest are gone on with. Those that end
are set aside with the score

    log-probability / length ** length_penalty

where length counts the new tokens, and compete for the `num_beams` places at the end. Scores, order and when to stop
are those of Hugging Face's transformers, to whose output ours is held.

Sources: Graves, *Sequence Transduction with Recurrent Neural Networks* (2012); Wu et al. (2016), section 7, for
dividing by the length.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gpt.model import GPT
from gpt.sampling import log_softmax
from gpt.sequences import Sequences


@dataclass(frozen=True)
class Beam:
    """What was written after the prompt, its end token included.

    score    what beams are ordered by: logprob / len(ids) ** length_penalty
    logprob  the logarithm of the probability of all `ids`
    """

    ids: list[int]
    score: float
    logprob: float


def beam_search(
    model: GPT,
    prompt: Sequence[int],
    max_new_tokens: int,
    num_beams: int,
    eos_id: int | Collection[int] | None = None,
    length_penalty: float = 1.0,
    early_stopping: bool | Literal["never"] = False,
    use_cache: bool = True,
) -> list[Beam]:
    """The best continuations of `prompt` that were found, at most num_beams of them, the best first.

    eos_id          the token, or the tokens, that end a sequence
    length_penalty  above 0 favours long sequences (log-probabilities are negative), below 0 short ones
    early_stopping  True: stop when num_beams sequences have ended. False: when the best that goes on is not better,
                    divided by its length so far, than the worst that has ended. "never": when none can become better

    ValueError for arguments that make no sense.
    """
    vocab_size = model.config.vocab_size
    ends = {eos_id} if isinstance(eos_id, int) else set(eos_id or ())
    if num_beams < 1:
        raise ValueError(f"num_beams expects a number from 1 on, got {num_beams}")
    if max_new_tokens < 1:
        raise ValueError(f"beam search writes at least one token, got max_new_tokens={max_new_tokens}")
    if outside := [i for i in ends if not 0 <= i < vocab_size]:
        raise ValueError(f"eos_id expects ids of the vocabulary, from 0 to {vocab_size - 1}, got {outside[0]}")

    beams = Sequences(model, [list(prompt)], max_new_tokens, use_cache)
    logprobs = np.zeros(1)  # of the sequences that go on
    ended: list[Beam] = []
    for length in range(1, max_new_tokens + 1):
        total = logprobs[:, None] + log_softmax(beams.logits())  # (n, V)
        likeliest = _largest(total.reshape(-1), max(2, 1 + len(ends)) * num_beams)
        rows, tokens = np.divmod(likeliest, vocab_size)
        scores = total.reshape(-1)[likeliest]
        ending = np.isin(tokens, list(ends)) | (length == max_new_tokens)
        for i in np.flatnonzero(ending[:num_beams]):  # whoever is behind these is not among the best now
            ids = [*beams.row(rows[i])[len(prompt) :].tolist(), int(tokens[i])]
            ended.append(Beam(ids, float(scores[i] / length**length_penalty), float(scores[i])))
        ended = sorted(ended, key=lambda beam: -beam.score)[:num_beams]
        going = np.flatnonzero(~ending)[:num_beams]
        if not len(going):
            break
        logprobs = scores[going]
        if len(ended) == num_beams:
            hoped = max_new_tokens if early_stopping == "never" and length_penalty > 0 else length
            if early_stopping is True or logprobs[0] / hoped**length_penalty <= ended[-1].score:
                break
        beams.select(rows[going].tolist())
        beams.append(tokens[going].tolist())
    return ended


def _largest(x: np.ndarray, count: int) -> np.ndarray:
    """Where the largest numbers of x are, the largest first."""
    count = min(count, len(x))
    found = np.argpartition(x, -count)[-count:]
    return found[np.argsort(-x[found], kind="stable")]
