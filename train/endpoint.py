"""Asking a language model behind a server that has OpenAI's chat endpoint: OpenAI, Ollama, vLLM, llama.cpp and others.

Servers are slow, busy and broken at times. What may pass is asked again, after a wait that doubles and is drawn at
random, so that several askers do not come back all at once, or for as long as the server says (RFC 9110, Retry-After).
"""

from __future__ import annotations

import json
import random
import re
import socket
import time
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from threading import Event
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

FIRST_WAIT, LAST_WAIT = 1.0, 60.0  # seconds before the second attempt; at most before a later one
PATIENCE = 300.0  # seconds; a server that wants longer than that is not waited for
LONGEST = 1 << 22  # bytes of an answer
_HOPELESS = {301, 302, 303, 307, 308, 401, 402, 403, 404, 405}  # for every question alike
_PASSES = {408, 409, 425, 429}  # and all from 500 on
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class QuestionError(Exception):
    """This question got no answer."""


class ServerError(Exception):
    """No question will get an answer: a wrong address, model or key."""


class Endpoint:
    """A model behind `url`/chat/completions.

    key       sent as a bearer token, to this server alone, and never part of a message
    settings  what else is sent with each question: temperature, seed, max_tokens
    timeout   seconds for an answer to be complete
    retries   so many times a question is asked again

    ValueError for an address that cannot be one, and for a key that would travel where others can read it.
    """

    def __init__(
        self,
        url: str,
        model: str,
        key: str | None = None,
        settings: dict[str, Any] | None = None,
        timeout: float = 120.0,
        retries: int = 5,
    ):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url} is no address of a server; http://localhost:11434/v1 is Ollama's")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("the address has a user, a password or a query in it; give a key by --key-from")
        if key is not None and not re.fullmatch(r"[!-~]+", key):
            raise ValueError("the key is empty, or has a space, a line break or another character that no key has")
        if key is not None and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise ValueError(f"a key is not sent to {parts.hostname} over http, where others can read it; use https")
        self.url, self.model = url.rstrip("/").removesuffix("/chat/completions"), model
        self.settings, self.timeout, self.retries = settings or {}, timeout, retries
        self.answered = False
        self._key = key
        # A redirection would take the key along to another server.
        handlers: list[Any] = [_NoRedirection(), *([ProxyHandler({})] if parts.hostname in _LOOPBACK else [])]
        self._opener: OpenerDirector = build_opener(*handlers)

    def ask(self, prompt: str, stop: Event) -> str:
        """What the model answers. QuestionError or ServerError says why there is none; `stop` ends all waiting."""
        for attempt in range(self.retries + 1):
            if stop.is_set():
                raise QuestionError("stopped")
            wait = min(FIRST_WAIT * 2**attempt, LAST_WAIT) * random.uniform(0.5, 1.0)
            try:
                return self._once(prompt)
            except HTTPError as error:
                problem = f"the server answered {error.code} {self._clean(error.reason)}{self._message(error)}"
                if error.code in _HOPELESS:
                    raise ServerError(problem + _remedy(error.code)) from None
                if error.code < 500 and error.code not in _PASSES:
                    raise QuestionError(problem) from None
                if (asked := _retry_after(error.headers)) > PATIENCE:
                    raise QuestionError(f"{problem}; it wants {asked:,.0f} seconds of patience") from None
                wait = max(wait, asked)
            except (OSError, HTTPException, ValueError) as error:
                reason = error.reason if isinstance(error, URLError) else error
                problem = self._clean(str(reason) or type(error).__name__)
                if not self.answered and isinstance(reason, ConnectionRefusedError | socket.gaierror):
                    raise ServerError(f"nobody answers there ({problem}); is the server running?") from None
            if attempt < self.retries:
                stop.wait(wait)
        raise QuestionError(f"{problem}, {self.retries + 1} times")

    def _once(self, prompt: str) -> str:
        question = {"model": self.model, "messages": [{"role": "user", "content": prompt}], **self.settings}
        headers = {"Content-Type": "application/json", "User-Agent": "tensorlite"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        request = Request(f"{self.url}/chat/completions", json.dumps(question).encode(), headers)
        until, body = time.monotonic() + self.timeout, b""
        with self._opener.open(request, timeout=self.timeout) as answer:
            while piece := answer.read1(1 << 16):
                body += piece
                if time.monotonic() > until:  # each piece may be in time and the whole not
                    raise TimeoutError(f"the answer was not complete after {self.timeout:g} seconds")
                if len(body) > LONGEST:
                    raise ValueError(f"the answer is longer than {LONGEST:,} bytes")
        try:
            said = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            raise ValueError(f"the answer is no chat completion: {self._short(body)!r}") from None
        if not isinstance(said, str) or not said.strip():
            raise ValueError("the answer is empty")
        self.answered = True
        return self._clean(said)

    def _clean(self, text: str) -> str:
        """`text` without the key, which a server may repeat."""
        return text if self._key is None else text.replace(self._key, "[key]")

    def _short(self, body: bytes) -> str:
        """The beginning of what a server sent; it may have repeated the key, so that is taken out before it is cut."""
        text = " ".join(self._clean(body.decode(errors="replace")).split())
        return text if len(text) <= 200 else text[:200] + "…"

    def _message(self, error: HTTPError) -> str:
        """What an error's body says; where to, for a redirection."""
        if to := error.headers.get("Location"):
            error.close()
            return f", which sends on to {self._clean(to)}"
        try:
            with error:
                body = error.read(LONGEST)
        except (OSError, HTTPException):
            return ""
        try:
            said = json.loads(body)["error"]
            said = said["message"] if isinstance(said, dict) else said
        except (ValueError, LookupError, TypeError):
            said = body.decode(errors="replace")
        return f": {self._short(str(said).encode())}" if said else ""


class _NoRedirection(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _retry_after(headers: Message) -> float:
    """The seconds that a server asks for; 0 if it does not."""
    value = headers.get("Retry-After", "")
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def _remedy(code: int) -> str:
    return {
        401: "; name the environment variable with the key: --key-from OPENAI_API_KEY, say",
        404: "; --url ends in /v1 with most servers, and --judge names a model that it has (ollama pull llama3)",
    }.get(code, "")
