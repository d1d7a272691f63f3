"""A model on 127.0.0.1: a page to chat on, and the part of OpenAI's API that writes text.

The model is asked by one thread, a token at a time. Whoever waits for a token stands in the queue of that thread, so
several requests are answered at once, and one whose client has gone asks for no more.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gpt.chat.conversation import Chat, TooLongError
from gpt.chat.request import CHAT, TEXT, Ask, Fields, Limits, RefusedError, read
from gpt.chat.response import Answers
from gpt.options import UsageError

if TYPE_CHECKING:
    from gpt.chat.__main__ import Config

HOST = "127.0.0.1"
LARGEST_BODY = 1 << 20  # bytes
PAGE = Path(__file__).with_name("page.html")
# The page may run what stands in it and talk to where it came from, and nothing else.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_EVENTS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
_END = object()

log = logging.getLogger("uvicorn.error")


def serve(chat: Chat, config: Config) -> None:
    """Until Ctrl-C. UsageError if the port is taken."""
    name = Path(config.model or "").resolve().name or "model"
    limits = Limits(name, config.max_new_tokens, config.max_tokens, config.sampling())
    with listening(config.port) as listener:
        address = f"http://{HOST}:{listener.getsockname()[1]}"
        print(f"page      {address}\nAPI       {address}/v1, model {name}\nCtrl-C ends it", flush=True)
        settings = uvicorn.Config(
            application(chat, limits, config.max_in_flight, lambda: server.should_exit),
            log_level="warning", lifespan="off", server_header=False,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = uvicorn.Server(settings)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


def listening(port: int) -> socket.socket:
    """A socket that listens on a port, to this machine only. UsageError if the port is taken."""
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)  # its own text tells of Python's calls
        raise UsageError(f"--port {port}: {reason}; choose another, or 0 for a free one") from error


def application(
    chat: Chat, limits: Limits, max_in_flight: int, ending: Callable[[], bool] = lambda: False
) -> Starlette:
    model = Model(chat, limits, max_in_flight, ending)
    routes = [
        Route("/", page),
        Route("/v1/models", model.listed),
        Route("/v1/chat/completions", Endpoint(model, CHAT), methods=["POST"]),
        Route("/v1/completions", Endpoint(model, TEXT), methods=["POST"]),
    ]
    # A site whose name was made to mean this machine shall not use the model.
    own = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    return Starlette(routes=routes, middleware=[own], exception_handlers={HTTPException: _http_error})


async def page(request: Request) -> Response:
    return HTMLResponse(PAGE.read_text(encoding="utf-8"), headers={"Content-Security-Policy": POLICY})


class Model:
    """The model, its thread, how many requests it is answering, and whether the server is `ending`."""

    def __init__(self, chat: Chat, limits: Limits, max_in_flight: int, ending: Callable[[], bool]):
        self.ending = ending
        self.chat, self.limits, self.max_in_flight = chat, limits, max_in_flight
        self.in_flight = 0
        self._thread = ThreadPoolExecutor(1, "model")

    async def listed(self, request: Request) -> Response:
        """As OpenAI's API lists models, with what the page wants to know beside it."""
        described = {
            "id": self.limits.model, "object": "model", "created": 0, "owned_by": "tensorlite",
            "context_length": self.chat.model.config.context_length, "parameters": self.chat.model.num_parameters(),
            "temperature": self.limits.sampling.temperature, "max_tokens": self.limits.max_new_tokens,
        }  # fmt: skip
        return _json({"object": "list", "data": [described]})

    @contextmanager
    def slot(self) -> Iterator[None]:
        """One of the requests that may be answered at once. RefusedError if there are as many already."""
        if self.in_flight >= self.max_in_flight:
            raise RefusedError(
                429,
                f"{self.in_flight} requests are being answered, as many as --max-in-flight allows; try again soon",
                code="rate_limit_exceeded",
            )
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def begin(self, ask: Ask) -> Answers:
        """RefusedError if the model cannot read what it is asked."""
        try:
            answer = await self._run(ask.answered_by, self.chat)
        except TooLongError as error:
            where = "prompt" if ask.conversation is None else "messages"
            raise RefusedError(400, str(error), where, "context_length_exceeded") from None
        except ValueError as error:
            raise RefusedError(400, str(error), None, "invalid_value") from None
        return Answers(ask, answer, self.limits.model, self.chat.tokenizer)

    async def steps(self, answers: Answers) -> AsyncIterator[None]:
        """After each token. RefusedError if the model fails."""
        try:
            while await self._run(next, answers.answer.steps, _END) is not _END:
                yield
                if self.ending():
                    raise RefusedError(500, "the server was ended")
        except (ArithmeticError, MemoryError, RuntimeError, ValueError) as error:
            log.exception("the model failed")
            raise RefusedError(500, f"the model failed: {error}") from error

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


class Endpoint:
    """Answers the requests of one address, whose parameters are `fields`: CHAT or TEXT."""

    def __init__(self, model: Model, fields: Fields):
        self.model, self.fields = model, fields

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            ask = read(await body(request), self.fields, self.model.limits)
            with self.model.slot():
                answers = await self.model.begin(ask)
                if ask.stream:
                    response: Response = StreamingResponse(self.events(answers), headers=_EVENTS)
                    await response(scope, receive, send)  # which ends when the client goes
                    return
                async for _ in self.model.steps(answers):
                    if await request.is_disconnected():
                        return
                response = _json(answers.whole())
        except ClientDisconnect:
            return
        except RefusedError as error:
            response = _refused(error)
        await response(scope, receive, send)

    async def events(self, answers: Answers) -> AsyncIterator[str]:
        """Server-sent events. Where the model fails half-way, the last but one holds the error."""
        try:
            for piece in answers.first():
                yield _event(piece)
            async for _ in self.model.steps(answers):
                for piece in answers.new():
                    yield _event(piece)
            for piece in answers.last():
                yield _event(piece)
        except RefusedError as error:
            yield _event(error.body)
        yield "data: [DONE]\n\n"


async def body(request: Request) -> Any:
    """The JSON that a request brings. RefusedError if it is too large or none.

    It must say that it is JSON, which a browser sends to a site of another name only if that agrees.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(415, f"expected the header Content-Type: application/json, got {kind or 'none'}")
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > LARGEST_BODY:
            raise RefusedError(413, f"the request is larger than {LARGEST_BODY:,} bytes", code="request_too_large")
    try:
        return json.loads(raw)
    except (RecursionError, ValueError) as error:  # also bytes that are no UTF-8
        raise RefusedError(400, f"the request is not JSON: {error}", code="invalid_json") from None


def _event(content: Any) -> str:
    return f"data: {json.dumps(content, separators=(',', ':'))}\n\n"


def _json(content: Any, status: int = 200, **headers: str) -> Response:
    # In ASCII, so that half a surrogate that somebody sent can be sent back.
    return Response(json.dumps(content), status, headers, media_type="application/json")


def _refused(error: RefusedError) -> Response:
    return _json(error.body, error.status, **({"Retry-After": "1"} if error.status == 429 else {}))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _refused(RefusedError(error.status_code, f"{request.method} {request.url.path}: {error.detail}"))
