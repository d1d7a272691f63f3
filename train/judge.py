"""A language model judges what another has answered, from 0 to 100.

    python -m train.evaluate judge --data runs/instruct --judge llama3

Any server with OpenAI's chat endpoint will do; without --url it is Ollama on this machine. Source for the method:
Raschka, *Build a Large Language Model (From Scratch)*, section 7.8.
"""

from __future__ import annotations

import json
import os
import queue
import re
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gpt.datasets import find
from gpt.download import digest
from gpt.options import UsageError, option, parse
from gpt.template import filled
from train.corpus import read_text
from train.endpoint import Endpoint, QuestionError, ServerError
from train.instructions import Dialogue, read_dialogues
from train.ledger import Ledger
from train.pictures import histogram

PROMPT = """\
You grade how well an assistant has done a task. Compare its answer with the reference answer, which is right, and give
from 0 points (useless) to 100 points (as good as the reference, in whatever words).

Task:
{instruction}

Reference answer:
{output}

The assistant's answer:
{model_response}

Reply with the points alone: one whole number."""


@dataclass(frozen=True)
class Config:
    data: Path | None = option(None, "responses.json, which train.instruct writes, or the run's folder that has it")
    out: Path | None = option(None, "folder for scores and picture; none: judged-by-JUDGE beside the responses")
    judge: str = option("llama3", "the model that judges, by the server's name for it")
    url: str = option("http://localhost:11434/v1", "the server, up to /chat/completions; the default is Ollama's")
    key_from: str | None = option(None, "environment variable that holds the server's key; none: no key is sent")
    template: Path | None = option(
        None, "a text file with {instruction}, {output} and {model_response} in it; none: our own prompt"
    )
    temperature: float | None = option(0.0, "how freely the judge writes; none leaves it to the server")
    seed: int | None = option(123, "of the judge's random numbers; none leaves it to the server")
    max_tokens: int | None = option(None, "tokens of a judgement, at most; none leaves it to the server")
    limit: int | None = option(None, "judge the first so many answers; none: all")
    concurrency: int = option(4, "questions that are asked at once")
    timeout: float = option(120.0, "seconds to wait for a judgement")
    retries: int = option(5, "how often a question that failed is asked again")

    def __post_init__(self) -> None:
        for name, least in {"limit": 1, "max_tokens": 1, "concurrency": 1, "retries": 0}.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise UsageError(f"--{name.replace('_', '-')} is at least {least}, not {value}")
        if self.timeout <= 0:
            raise UsageError(f"--timeout is above 0, not {self.timeout}")

    def endpoint(self) -> Endpoint:
        """Raises UsageError if there can be no such server, or the key is missing."""
        key = None
        if self.key_from is not None and not (key := os.environ.get(self.key_from)):
            raise UsageError(f"--key-from {self.key_from}: there is no such environment variable, or it is empty")
        settings = {name: getattr(self, name) for name in ("temperature", "seed", "max_tokens")}
        sent = {name: value for name, value in settings.items() if value is not None}
        try:
            return Endpoint(self.url, self.judge, key, sent, self.timeout, self.retries)
        except ValueError as error:
            raise UsageError(f"--url: {error}") from None


def question(dialogue: Dialogue, template: str) -> str:
    """What the judge is asked. Raises UsageError where the model's response is missing."""
    response = dialogue.entry.get("model_response")
    if not isinstance(response, str):
        raise UsageError(f"{dialogue.where}: there is no text model_response; train.instruct writes responses.json")
    *earlier, last = dialogue.turns
    before = [dialogue.system, *(f"User: {turn.instruction}\nAssistant: {turn.output}" for turn in earlier)]
    task = [*before, f"User: {last.instruction}" if earlier else last.instruction, last.input]
    instruction = "\n\n".join(text for text in task if text)
    return filled(template, instruction=instruction, output=last.output, model_response=response)


def score_of(answer: str) -> int | None:
    """The number from 0 to 100 in a judge's answer; None where there is none, or more than one."""
    text = re.sub(r"(?i)(\d)\s*(/|out of)\s*100\b", r"\1", answer)  # 85/100 says one number
    numbers = {float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)}
    found = numbers.pop() if len(numbers) == 1 else -1.0
    return round(found) if 0 <= found <= 100 else None


def each(work: Callable[[int], Any], numbers: Sequence[int], workers: int) -> Iterator[tuple[int, Any]]:
    """`work` of each number, in threads, as they finish: (number, what it returned or the exception it raised).

    The threads do not keep the program from ending.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
    for number in numbers:
        waiting.put(number)

    def run() -> None:
        while True:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((number, work(number)))
            except Exception as error:
                done.put((number, error))

    for _ in range(min(workers, len(numbers))):
        threading.Thread(target=run, daemon=True).start()
    for _ in numbers:
        yield done.get()


def judge(endpoint: Endpoint, questions: Sequence[str], ledger: Ledger, concurrency: int) -> dict[int, str]:
    """Ask all questions that the ledger has no record of; returns which failed, and why.

    When all that are under way fail one after another the server is gone, and the rest is not asked. Raises UsageError
    where no question can get an answer.
    """
    stop, failed, in_a_row = threading.Event(), dict[int, str](), 0
    open_ones = [i for i in range(len(questions)) if i not in ledger.records]
    answers = each(lambda i: endpoint.ask(questions[i], stop), open_ones, concurrency)
    bar = tqdm(total=len(questions), initial=len(questions) - len(open_ones), desc="judged", disable=None, leave=False)
    try:
        with bar:
            for i, answer in answers:
                if isinstance(answer, ServerError):
                    raise UsageError(f"{endpoint.url}, model {endpoint.model}: {answer}")
                if isinstance(answer, QuestionError):
                    failed[i], in_a_row = str(answer), in_a_row + 1
                    if in_a_row >= max(concurrency, 3):
                        break
                    continue
                if isinstance(answer, Exception):
                    raise answer
                in_a_row = 0
                ledger.add(i, score=score_of(answer), answer=answer)
                bar.update()
    finally:
        stop.set()
    return failed


def main(argv: Sequence[str]) -> None:
    """A language model behind a server scores the answers of train.instruct."""
    config = parse(
        Config, argv, {"default": Config()}, "default", "evaluate judge", "Let a language model score answers."
    )
    if config.data is None:
        raise UsageError("--data is missing: name the responses.json of a run of train.instruct, or its folder")
    data = find(config.data / "responses.json" if config.data.is_dir() else config.data)
    template = PROMPT if config.template is None else read_text(config.template)
    if missing := [word for word in ("{instruction}", "{model_response}") if word not in template]:
        raise UsageError(f"--template {config.template}: {' and '.join(missing)} is not in it")
    questions = [question(dialogue, template) for dialogue in read_dialogues(data)][: config.limit]
    endpoint = config.endpoint()
    out = config.out or data.parent / f"judged-by-{re.sub(r'[^A-Za-z0-9.-]+', '-', config.judge)}"
    about = {
        "responses": digest(data),
        "judge": config.judge,
        "url": endpoint.url,
        "template": sha256(template.encode()).hexdigest(),
        **{name: getattr(config, name) for name in ("temperature", "seed", "max_tokens")},
    }
    ledger = Ledger(out / "scores.jsonl", about)
    if before := sum(i in ledger.records for i in range(len(questions))):
        print(f"goes on   {before:,} of {len(questions):,} are judged already in {ledger.path}")
    try:
        failed = judge(endpoint, questions, ledger, config.concurrency)
    except KeyboardInterrupt:
        print(f"stopped   what is judged is in {ledger.path}; the same command goes on from there")
        raise SystemExit(130) from None
    records = [ledger.records[i] for i in range(len(questions)) if i in ledger.records]
    conclude(records, len(questions), config.judge, out)
    if failed:
        raise UsageError(
            f"{len(questions) - len(records):,} of {len(questions):,} answers are not judged, because "
            f"{next(reversed(failed.values()))}; the same command asks again for these"
        )


def conclude(records: Sequence[dict[str, Any]], asked: int, by: str, out: Path) -> None:
    """Print what the scores come to, and write summary.json and scores.png."""
    scores = [record["score"] for record in records if record["score"] is not None]
    unread = [record["answer"] for record in records if record["score"] is None]
    summary: dict[str, Any] = {"judge": by, "answers": asked, "scores": len(scores), "unreadable": len(unread)}
    print(f"judge     {by}")
    print(f"scores    {len(scores):,} of {asked:,} answers")
    if unread:
        print(f"          {len(unread):,} judgements are no number from 0 to 100, {unread[0][:60]!r} say; not counted")
    if scores:
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        summary |= {"mean": statistics.mean(scores), "median": statistics.median(scores), "deviation": spread}
        error = spread / len(scores) ** 0.5
        print(f"mean      {summary['mean']:.2f} ± {error:.2f} (standard error); median {summary['median']:g}")
        tens = [sum(min(score // 10, 9) == ten for score in scores) for ten in range(10)]
        for ten, count in enumerate(tens):
            upto = 100 if ten == 9 else 10 * ten + 9
            print(f"{10 * ten:4}–{upto:<4} {'█' * round(40 * count / max(tens)):40} {count:,}")
        title = f"{by} on {len(scores):,} answers"
        histogram(scores, out / "scores.png", title, "score", range(0, 101, 10))
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(f"wrote     {out}/: scores.jsonl, summary.json{', scores.png' if scores else ''}")
