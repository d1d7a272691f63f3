"""The judge against a server that misbehaves: what is asked again, what is kept, and that the key stays secret."""

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from functools import partial
from pathlib import Path

import pytest
from web import serving

from gpt.options import UsageError
from train import endpoint, evaluate
from train.endpoint import Endpoint, QuestionError, ServerError
from train.judge import PROMPT, each, score_of
from train.ledger import Ledger

KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.001)


@pytest.fixture
def responses(tmp_path):
    """A run's folder with ten responses; the model's answer to number i is the word i."""
    entries = [
        {"instruction": f"Say {i}.", "input": "", "output": str(i), "model_response": f"number {i}"} for i in range(10)
    ]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "responses.json").write_text(json.dumps(entries))
    return tmp_path / "run"


def completion(content):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()


def number(request):
    """Which of the ten answers a question is about."""
    prompt = json.loads(request.body)["messages"][0]["content"]
    return int(prompt.split("number ")[1].split("\n")[0])


class Judge:
    """Gives 10 points more for each number; the first answers to number i are those of misbehaviour[i]."""

    def __init__(self, misbehaviour=None):
        self.misbehaviour = misbehaviour or {}
        self.asked, self.requests = [], []

    def __call__(self, request):
        i = number(request)
        self.asked.append(i)
        self.requests.append((request.path, dict(request.headers), json.loads(request.body)))
        if waiting := self.misbehaviour.get(i):
            waiting.pop(0)(request)
        else:
            request.reply(200, completion(f"{10 * i}"))


def hang_up(request):
    request.close_connection = True  # without a word


def cut(request):
    request.reply(200, completion("50")[:20], claim=400)


def judged(folder, address, *flags):
    evaluate.main(["judge", "--data", str(folder), "--url", f"{address}/v1", "--judge", "a/b", *flags])
    out = folder / "judged-by-a-b"
    return json.loads((out / "summary.json").read_text()), out


def test_a_server_that_misbehaves_in_every_way(responses, capsys, monkeypatch):
    """Slow, busy, broken, cut, silent: each is asked again, and every answer gets its own score."""
    over = threading.Event()

    def slow(request):
        over.wait(10)
        hang_up(request)

    def drips(request):
        request.send_response(200)
        request.end_headers()
        for _ in range(200):
            if over.wait(0.05):
                return
            request.wfile.write(b" ")
            request.wfile.flush()

    server = Judge({
        0: [lambda request: request.reply(429, b"{}", Retry_After="0.3")],
        1: [lambda request: request.reply(500, b"<html>oops"), lambda request: request.reply(503)],
        2: [lambda request: request.reply(200, b"{broken"), lambda request: request.reply(200, b'{"choices": []}')],
        3: [hang_up, cut],
        4: [slow],
        5: [drips],
        6: [lambda request: request.reply(200, completion("  "))],
        7: [lambda request: request.reply(429, Retry_After=formatdate(time.time() - 100, usegmt=True))],
    })  # fmt: skip
    start = time.monotonic()
    with serving(server) as address:
        summary, out = judged(responses, address, "--timeout", "1")
        over.set()
    assert time.monotonic() - start >= 0.3  # that 429 said so
    assert summary == {
        "judge": "a/b", "answers": 10, "scores": 10, "unreadable": 0, "mean": 45, "median": 45,
        "deviation": pytest.approx(30.2765, abs=1e-3),
    }  # fmt: skip
    assert not any(server.misbehaviour.values())  # each was met
    scores = {r["number"]: r["score"] for r in map(json.loads, (out / "scores.jsonl").read_text().splitlines()[1:])}
    assert scores == {i: 10 * i for i in range(10)}
    assert (out / "scores.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "scores    10 of 10 answers" in printed and "mean      45.00 ± 9.57" in printed
    assert "  90–100  " in printed


def test_what_is_asked(responses, tmp_path):
    server = Judge()
    with serving(server) as address:
        judged(responses, address, "--limit", "1", "--max-tokens", "5", "--seed", "none")
    path, headers, question = server.requests[0]
    assert path == "/v1/chat/completions" and "Authorization" not in headers
    said = PROMPT.replace("{instruction}", "Say 0.").replace("{output}", "0").replace("{model_response}", "number 0")
    messages = [{"role": "user", "content": said}]
    assert question == {"model": "a/b", "messages": messages, "temperature": 0.0, "max_tokens": 5}


def test_chats_and_braces_reach_the_judge_as_they_are(tmp_path):
    chat = [("user", "Hi."), ("assistant", "Hello."), ("user", "{output}?"), ("assistant", "right")]
    entry = {"messages": [{"role": r, "content": c} for r, c in chat], "model_response": "number 3\n{instruction}"}
    (tmp_path / "r.json").write_text(json.dumps([entry]))
    (tmp_path / "t.txt").write_text("{instruction}|{output}|{model_response}|{other}")
    server = Judge()
    with serving(server) as address:
        url = ["--url", address, "--data", str(tmp_path / "r.json")]
        evaluate.main(["judge", *url, "--template", str(tmp_path / "t.txt"), "--out", str(tmp_path / "out")])
    said = server.requests[0][2]["messages"][0]["content"]
    assert said == "User: Hi.\nAssistant: Hello.\n\nUser: {output}?|right|number 3\n{instruction}|{other}"


def wait_for_lines(file, count):
    until = time.monotonic() + 120
    while (not file.exists() or file.read_text().count("\n") < count) and time.monotonic() < until:
        time.sleep(0.02)


def test_it_goes_on_where_it_was_killed(responses, tmp_path):
    """A process is killed in the middle; the next one asks for nothing that is written down."""
    over = threading.Event()
    server = Judge({i: [lambda request: over.wait(60)] for i in range(4, 10)})
    with serving(server) as address:
        flags = ["judge", "--data", str(responses), "--url", f"{address}/v1", "--judge", "a/b", "--concurrency", "2"]
        code = "import sys; from train import evaluate; evaluate.main(sys.argv[1:])"
        process = subprocess.Popen([sys.executable, "-c", code, *flags], cwd=Path(__file__).parents[1])
        file = responses / "judged-by-a-b" / "scores.jsonl"
        wait_for_lines(file, 5)
        process.kill()
        process.wait()
        with file.open("a") as lines:
            lines.write('{"number": 9, "sco')  # as if it had died in a line
        server.asked.clear()
        server.misbehaviour.clear()
        over.set()
        summary, _ = judged(responses, address)
    assert sorted(server.asked) == [4, 5, 6, 7, 8, 9]
    assert summary["scores"] == 10 and summary["mean"] == 45


def test_ctrl_c_ends_it_at_once_and_keeps_what_there_is(responses):
    over = threading.Event()
    server = Judge({i: [lambda request: over.wait(60)] for i in range(4, 10)})
    with serving(server) as address:
        flags = ["judge", "--data", str(responses), "--url", f"{address}/v1", "--concurrency", "2"]
        code = "import sys; from train import evaluate; evaluate.main(sys.argv[1:])"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *flags], cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True
        )
        file = responses / "judged-by-llama3" / "scores.jsonl"
        wait_for_lines(file, 5)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=50)
        over.set()
    assert process.returncode == 130
    assert "the same command goes on from there" in said
    assert len(file.read_text().splitlines()) == 5


def test_scores_of_another_judge_do_not_mix(responses, fails):
    with serving(Judge()) as address:
        judged(responses, address, "--limit", "2")
        with pytest.raises(UsageError, match="has the results of another evaluation, which differs in temperature"):
            judged(responses, address, "--temperature", "1")
        summary, _ = judged(responses, address)  # more of the same goes on
    assert summary["scores"] == 10


def test_an_answer_that_cannot_be_judged_is_said_and_asked_for_again(responses, capsys):
    server = Judge({3: [lambda request: request.reply(400, b'{"error": {"message": "too long"}}')]})
    with serving(server) as address:
        with pytest.raises(
            UsageError, match=r"1 of 10 answers are not judged, because the server answered 400 .*too long"
        ):
            judged(responses, address)
        assert "scores    9 of 10 answers" in capsys.readouterr().out
        summary, _ = judged(responses, address)
    assert summary["scores"] == 10 and server.asked.count(3) == 2 and len(server.asked) == 11


def test_a_server_that_goes_down_is_not_asked_for_all_the_rest(responses):
    server = Judge({i: [lambda request: request.reply(500)] * 9 for i in range(2, 10)})
    with (
        serving(server) as address,
        pytest.raises(UsageError, match=r"8 of 10 answers are not judged, because .* 500 Internal Server Error, 2"),
    ):
        judged(responses, address, "--retries", "1", "--concurrency", "1")
    assert 2 + 3 * 2 <= len(server.asked) <= 2 + 3 * 2 + 2  # one may have begun meanwhile


def test_judgements_without_a_number_are_counted_apart(responses, capsys):
    server = Judge({2: [lambda request: request.reply(200, completion("I cannot say"))]})
    with serving(server) as address:
        summary, _ = judged(responses, address)
    assert (summary["scores"], summary["unreadable"]) == (9, 1) and summary["mean"] == pytest.approx(430 / 9)
    assert "1 judgements are no number from 0 to 100, 'I cannot say' say; not counted" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, score",
    [
        ("85", 85), (" 85.\n", 85), ("Score: 85/100", 85), ("**100**", 100), ("0", 0), ("85 out of 100", 85),
        ("72.6", 73), ("85, because 85 is fair", 85), ("between 70 and 80", None), ("101", None), ("-5", None),
        ("great", None), ("", None), ("1e999 points", None),
    ],
)  # fmt: skip
def test_reading_a_score(answer, score):
    assert score_of(answer) == score


# The key -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_the_key_is_sent_and_shown_nowhere(responses, monkeypatch, capsys, caplog, status):
    """Not even where the server repeats it."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", KEY)
    sent = []

    def repeats(request):
        sent.append(request.headers["Authorization"])
        said = f"wrong key: {KEY}"
        request.reply(status, completion(f"50 {KEY}") if status == 200 else json.dumps({"error": said}).encode())

    with serving(repeats) as address:
        if status == 200:
            judged(responses, address, "--key-from", "MY_KEY")
        else:
            with pytest.raises(UsageError, match=r"wrong key: \[key\]") as stopped:
                judged(responses, address, "--key-from", "MY_KEY", "--retries", "1")
            assert KEY not in str(stopped.value)
    assert set(sent) == {f"Bearer {KEY}"}
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err + caplog.text
    written = [path for path in responses.rglob("*") if path.is_file()]
    assert len(written) >= 2 and not any(KEY.encode() in path.read_bytes() for path in written)


def test_the_key_goes_to_no_other_server(responses, monkeypatch, fails):
    monkeypatch.setenv("MY_KEY", KEY)
    elsewhere = []
    with (
        serving(lambda request: elsewhere.append(request)) as other,
        serving(lambda request: request.reply(307, Location=f"{other}/v1/chat/completions")) as address,
    ):
        said = fails(
            evaluate.main, "evaluate", "judge", "--data", responses, "--url", f"{address}/v1", "--key-from", "MY_KEY"
        )
    assert f"the server answered 307 Temporary Redirect, which sends on to {other}" in said
    assert elsewhere == []


@pytest.mark.parametrize("before", range(178, 203, 8))
def test_no_part_of_the_key_is_left_where_a_message_is_cut(before):
    with (
        serving(lambda request: request.reply(400, b"x" * before + KEY.encode())) as address,
        pytest.raises(QuestionError) as stopped,
    ):
        Endpoint(address, "m", KEY).ask("?", threading.Event())
    assert "x" * 150 in str(stopped.value) and KEY[:4] not in str(stopped.value)


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY} x", f"{KEY}é", ""])
def test_a_key_that_cannot_be_one_is_refused_unseen(key):
    with pytest.raises(ValueError, match="the key is empty, or has a space") as refused:
        Endpoint("http://localhost/v1", "m", key)
    assert KEY not in str(refused.value)


# Mistakes ----------------------------------------------------------------------------------------------


def test_mistakes_are_one_line(responses, tmp_path, fails, monkeypatch):
    refused = partial(fails, evaluate.main, "evaluate", "judge")
    with serving(Judge()) as address:
        pass
    said = refused("--data", responses, "--url", f"{address}/v1")
    assert f"{address}/v1, model llama3: nobody answers there (" in said and "is the server running?" in said
    with serving(lambda request: request.reply(404, b'{"error": {"message": "model not found"}}')) as address:
        said = refused("--data", responses, "--url", f"{address}/v1")
    assert "404 Not Found: model not found; --url ends in /v1" in said
    with serving(lambda request: request.reply(401)) as address:
        assert "name the environment variable with the key" in refused("--data", responses, "--url", f"{address}/v1")
    monkeypatch.setenv("MY_KEY", KEY)
    keyed = ["--data", responses, "--key-from", "MY_KEY", "--url"]
    assert "a key is not sent to example.com over http" in refused(*keyed, "http://example.com/v1")
    said = refused(*keyed, f"https://me:{KEY}@example.com/v1")
    assert "has a user, a password or a query in it" in said and KEY not in said
    assert "ftp://x is no address of a server" in refused("--data", responses, "--url", "ftp://x")
    assert "--key-from NO_KEY: there is no such environment variable" in refused(
        "--data", responses, "--key-from", "NO_KEY"
    )
    assert "--data is missing: name the responses.json" in refused()
    assert "there is no such file" in refused("--data", tmp_path / "none.json")
    (tmp_path / "r.json").write_text('[{"instruction": "a", "output": "b"}]')
    assert "r.json, entry 1: there is no text model_response" in refused("--data", tmp_path / "r.json")
    (tmp_path / "t.txt").write_text("Grade this.")
    said = refused("--data", responses, "--template", tmp_path / "t.txt")
    assert "{instruction} and {model_response} is not in it" in said
    assert "--concurrency is at least 1, not 0" in refused("--concurrency", "0")
    assert "--timeout is above 0, not 0.0" in refused("--timeout", "0")


def test_a_server_that_wants_too_much_patience():
    with (
        serving(lambda request: request.reply(429, Retry_After="3600")) as address,
        pytest.raises(QuestionError, match="429 Too Many Requests; it wants 3,600 seconds of patience"),
    ):
        Endpoint(address, "m").ask("?", threading.Event())


def test_nobody_waits_after_a_stop(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 60.0)
    stop = threading.Event()
    stop.set()
    with serving(lambda request: request.reply(500)) as address, pytest.raises(QuestionError, match="stopped"):
        Endpoint(address, "m").ask("?", stop)


def test_an_address_that_is_gone():
    with serving(lambda request: request.reply(200, completion("5"))) as address:
        server = Endpoint(f"{address}/v1/chat/completions", "m", retries=1)
        assert server.ask("?", threading.Event()) == "5"
    with pytest.raises(QuestionError, match="Connection refused, 2 times"):  # it was there before: it may come back
        server.ask("?", threading.Event())
    with pytest.raises(ServerError, match="nobody answers there"):
        Endpoint(address, "m").ask("?", threading.Event())


# Parts -------------------------------------------------------------------------------------------------


def test_each_runs_as_many_at_once_as_it_may():
    together, most, lock = 0, 0, threading.Lock()

    def work(i):
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.02)
        with lock:
            together -= 1
        if i == 5:
            raise ValueError("five")
        return i * i

    found = dict(each(work, range(12), 3))
    assert most == 3 and isinstance(found.pop(5), ValueError)
    assert found == {i: i * i for i in range(12) if i != 5}
    assert list(each(work, [], 3)) == []


def test_a_ledger_keeps_what_is_whole(tmp_path):
    first = Ledger(tmp_path / "deep" / "l.jsonl", {"model": "a"})
    first.add(3, score=1)
    first.add(4, score=2)
    path = tmp_path / "deep" / "l.jsonl"
    path.write_text(path.read_text()[:-5])
    again = Ledger(path, {"model": "a"})
    assert again.records == {3: {"score": 1}}
    again.add(5, score=9)
    assert Ledger(path, {"model": "a"}).records == {3: {"score": 1}, 5: {"score": 9}}
    with pytest.raises(UsageError, match=r"l.jsonl has the results of another evaluation, which differs in model"):
        Ledger(path, {"model": "b"})
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--out .*file: cannot be "):
        Ledger(tmp_path / "file" / "l.jsonl", {})
