"""The server, asked over a real socket: answers whole and streamed, what it refuses, and a client that goes."""

import http.client
import json
import math
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from test_chat import LETTERS, SHORT, run_folder, small

from gpt.chat import __main__ as script
from gpt.chat.conversation import Chat
from gpt.chat.request import Limits
from gpt.chat.server import HOST, LARGEST_BODY, application, listening
from gpt.sampling import Sampling

LONG = {"max_tokens": 1_000_000, "stream": True}
HELLO = {"messages": [{"role": "user", "content": "hello"}], "seed": 1}


@contextmanager
def serving(model=None, **changes):
    limits = Limits("small", 8, changes.pop("max_tokens", 2_000_000), Sampling())
    listener = listening(0)
    chat = Chat(model or small(), LETTERS, changes.pop("template", SHORT))
    app = application(chat, limits, changes.pop("max_in_flight", 2))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def port():
    with serving() as port:
        yield port


def ask(port, path, body=None, method="POST", **headers):
    """The open response; its JSON is read by `told`."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection.request(method, path, raw, {"Content-Type": "application/json", "Connection": "close", **headers})
    return connection.getresponse()


def told(port, path, body=None, method="POST", **headers):
    response = ask(port, path, body, method, **headers)
    return response.status, json.loads(response.read())


def chatted(port, **changes):
    return told(port, "/v1/chat/completions", HELLO | changes)


def completed(port, **changes):
    return told(port, "/v1/completions", {"prompt": "hello", "seed": 1} | changes)


def streamed(response):
    assert response.status == 200 and response.getheader("content-type").startswith("text/event-stream")
    *events, last = response.read().decode().removesuffix("\n\n").split("\n\n")
    assert last == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


# Answers -----------------------------------------------------------------------------------------------


def test_a_chat_is_answered(port):
    status, answer = chatted(port)
    (choice,) = answer["choices"]
    assert status == 200 and answer["object"] == "chat.completion" and answer["model"] == "small"
    assert choice["message"]["role"] == "assistant" and len(choice["message"]["content"]) == 8
    assert choice["finish_reason"] == "length" and choice["logprobs"] is None
    assert answer["usage"] == {"prompt_tokens": 10, "completion_tokens": 8, "total_tokens": 18}  # "Q hello A "
    assert chatted(port)[1]["choices"] == answer["choices"] != chatted(port, seed=2)[1]["choices"]


def test_a_stream_has_what_the_whole_has(port):
    asked = {"logprobs": True, "top_logprobs": 3, "n": 2}
    whole = chatted(port, **asked)[1]
    body = HELLO | asked | {"stream": True, "stream_options": {"include_usage": True}}
    *pieces, last = streamed(ask(port, "/v1/chat/completions", body))
    assert last["usage"] == whole["usage"] and last["choices"] == []
    for index, choice in enumerate(whole["choices"]):
        mine = [piece["choices"][0] for piece in pieces if piece["choices"][0]["index"] == index]
        assert "".join(one["delta"].get("content", "") for one in mine) == choice["message"]["content"]
        tokens = [token for one in mine[1:] for token in one["logprobs"]["content"]]
        assert tokens == choice["logprobs"]["content"]
        assert [one["finish_reason"] for one in mine] == [None] * (len(mine) - 1) + ["length"]
        for token in choice["logprobs"]["content"]:
            likeliest = [one["logprob"] for one in token["top_logprobs"]]
            assert len(likeliest) == 3 and likeliest == sorted(likeliest, reverse=True)
            assert token["logprob"] <= likeliest[0] <= 0 and bytes(token["bytes"]).decode() == token["token"]


def test_probabilities_sum_to_one():
    tokens = LETTERS.vocab_size
    assert tokens > 20  # more than may be asked for, so they are summed where they are made
    chat = Chat(small(), LETTERS, SHORT)
    answer = chat.go_on(["abc"], 2, None, [0], top_logprobs=tokens)
    list(answer.steps)
    (row,) = (text.row for text in answer.texts)
    for token, logprob, likeliest in zip(row.ids, row.logprobs, row.likeliest):
        assert math.isclose(sum(math.exp(p) for _, p in likeliest), 1) and dict(likeliest)[token] == logprob


def test_a_text_is_gone_on_with(port):
    status, answer = completed(port, prompt=["ab", "cd"], n=2, max_tokens=5, logprobs=2)
    assert status == 200 and answer["object"] == "text_completion" and len(answer["choices"]) == 4
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 20, "total_tokens": 24}
    for choice in answer["choices"]:
        named = choice["logprobs"]
        assert "".join(named["tokens"]) == choice["text"] and named["text_offset"] == [0, 1, 2, 3, 4]
        assert all(len(likeliest) == 2 for likeliest in named["top_logprobs"])
    assert completed(port, prompt="cd", seed=3, max_tokens=5)[1]["choices"][0]["text"] == answer["choices"][2]["text"]
    pieces = streamed(ask(port, "/v1/completions", {"prompt": "ab", "seed": 1, "max_tokens": 5, "stream": True}))
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == answer["choices"][0]["text"]


def test_stop(port):
    text = completed(port, max_tokens=8)[1]["choices"][0]["text"]
    (choice,) = completed(port, max_tokens=8, stop=["~", text[3:5]])[1]["choices"]
    assert choice["text"] == text[: text.index(text[3:5])] and choice["finish_reason"] == "stop"


def test_turns_that_do_not_fit_are_left_out_and_counted(port):
    turns = [{"role": role, "content": "abcdefgh"} for role in ("user", "assistant", "user")]
    answer = told(port, "/v1/chat/completions", {"messages": turns})[1]
    assert answer["turns_left_out"] == 1 and answer["usage"]["prompt_tokens"] == 13


def test_what_clients_send_beside_it(port):
    parts = [{"role": "developer", "content": "Be"}, {"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    status, _ = chatted(port, messages=parts, user="me", top_p=None, frequency_penalty=0, tools=[])
    assert status == 200


def test_models_and_several_at_once(port):
    (model,) = told(port, "/v1/models", method="GET")[1]["data"]
    assert model["id"] == "small" and model["object"] == "model" and model["context_length"] == 32
    alone = [chatted(port, seed=seed, max_tokens=40)[1]["choices"] for seed in (1, 2)]
    found = {}
    threads = [
        threading.Thread(target=lambda s=seed: found.update({s: chatted(port, seed=s, max_tokens=40)[1]["choices"]}))
        for seed in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[1], found[2]] == alone


# Refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, status, param, code, message",
    [
        ({"model": "gpt-5"}, 404, "model", "model_not_found", "the model 'gpt-5' is not served here; 'small' is"),
        ({"max_tokens": 0}, 400, "max_tokens", "invalid_type", "max_tokens expects a whole number from 1 on, got '0'"),
        ({"max_tokens": True}, 400, "max_tokens", "invalid_type", "max_tokens expects"),
        ({"max_tokens": 3_000_000}, 400, "max_tokens", "max_tokens_exceeded", "a request may ask for 2,000,000"),
        ({"temperature": -1}, 400, "temperature", "invalid_value", "temperature expects a finite number from 0 on"),
        ({"temperature": math.nan}, 400, "temperature", "invalid_value", "temperature expects a finite number"),
        ({"top_p": 0}, 400, "top_p", "invalid_value", "top_p expects a probability above 0"),
        ({"top_p": "1"}, 400, "top_p", "invalid_type", "top_p expects a number, got '1'"),
        ({"stop": ""}, 400, None, "invalid_value", "an empty stop string"),
        ({"n": 17}, 400, "n", "invalid_type", "n expects a whole number from 1 to 16"),
        ({"maxtokens": 3}, 400, "maxtokens", "unknown_parameter", "'maxtokens'; did you mean max_tokens?"),
        ({"presence_penalty": 1}, 400, "presence_penalty", "unsupported_parameter", "is not supported here"),
        ({"top_logprobs": 3}, 400, "top_logprobs", "invalid_value", "needs logprobs to be true"),
        ({"messages": []}, 400, "messages", "invalid_value", "found no message"),
        ({"messages": None}, 400, "messages", "missing_required_parameter", "messages is missing"),
        ({"messages": [3]}, 400, "messages", "invalid_value", "expects a list of objects"),
        ({"messages": [{"role": "user", "content": "é"}]}, 400, None, "invalid_value", "cannot encode 'é'"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, 400, None, "invalid_value", "cannot encode"),
        ({"messages": [{"role": "user", "content": "x" * 40}]}, 400, "messages", "context_length_exceeded", "45 tok"),
    ],
)  # fmt: skip
def test_what_a_chat_refuses(port, changes, status, param, code, message):
    got, answer = chatted(port, **changes)
    error = answer["error"]
    assert (got, error["param"], error["code"], error["type"]) == (status, param, code, "invalid_request_error")
    assert message in error["message"]


def test_what_else_is_refused(port):
    for body in (b"{", b"\xff", b"[" * 100_000):
        status, answer = told(port, "/v1/completions", body)
        assert status == 400 and answer["error"]["code"] == "invalid_json"
    assert "expected a JSON object, got list" in told(port, "/v1/completions", [])[1]["error"]["message"]
    status, answer = told(port, "/v1/completions", b" " * (LARGEST_BODY + 1))
    assert status == 413 and answer["error"]["message"] == "the request is larger than 1,048,576 bytes"
    status, answer = told(port, "/v1/completions", {"prompt": "a"}, **{"Content-Type": "text/plain"})
    assert status == 415 and "Content-Type: application/json, got text/plain" in answer["error"]["message"]
    assert "prompt is missing" in told(port, "/v1/completions", {})[1]["error"]["message"]
    assert "token ids are not taken" in told(port, "/v1/completions", {"prompt": [1, 2]})[1]["error"]["message"]
    assert "17 answers are asked for" in completed(port, prompt=["a"] * 17)[1]["error"]["message"]
    assert completed(port, prompt="x" * 33)[1]["error"]["code"] == "context_length_exceeded"
    assert told(port, "/v1/embeddings", {})[0] == 404 and told(port, "/v1/completions", method="GET")[0] == 405
    with ask(port, "/", method="GET", Host="evil.example") as response:
        assert response.status == 400 and response.read() == b"Invalid host header"


def test_a_model_that_fails_says_so():
    broken = small()
    broken.wte.weight.array[:] = math.nan
    with serving(broken) as port:
        status, answer = chatted(port)
        assert status == 500 and "the model failed: the largest logit is nan" in answer["error"]["message"]
        *_, last = streamed(ask(port, "/v1/chat/completions", HELLO | {"stream": True}))
        assert last["error"]["type"] == "server_error"
        assert chatted(port)[0] == 500  # and not 429: nothing is left behind


# Clients that go, and too many -------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_stops_its_answer(stream):
    with serving(max_in_flight=1) as port:
        body = json.dumps(HELLO | LONG | {"stream": stream}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        with socket.create_connection((HOST, port)) as client:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            if stream:
                assert b"200 OK" in client.recv(1000)
            until(lambda: chatted(port)[0] == 429)
            response = ask(port, "/v1/chat/completions", HELLO)
            error = json.loads(response.read())["error"]
            assert response.getheader("retry-after") == "1" and error["type"] == "rate_limit_error"
            assert error["message"].startswith("1 requests are being answered, as many as --max-in-flight allows")
        until(lambda: chatted(port)[0] == 200)


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


# The command line --------------------------------------------------------------------------------------


def test_a_port_that_is_taken(fails, tmp_path):
    with listening(0) as taken:
        port = taken.getsockname()[1]
        error = fails(script.main, "chat", "--model", run_folder(tmp_path / "run"), "--serve", "--port", port)
        assert error == f"chat: --port {port}: Address already in use; choose another, or 0 for a free one"


def test_ctrl_c_ends_the_server(tmp_path):
    command = [sys.executable, "-m", "gpt.chat", "--model", str(run_folder(tmp_path / "run")), "--serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().split()[-1]
            port = int(address.rpartition(":")[2])
            until(lambda: told(port, "/v1/models", method="GET")[1]["data"][0]["id"] == "run")
            with ask(port, "/v1/completions", {"prompt": "a", "stream": True, "max_tokens": 4000}) as response:
                assert response.read(10)  # is being answered
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert "Traceback" not in err and process.returncode == 0
