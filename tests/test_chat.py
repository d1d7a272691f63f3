"""A conversation and its history, the terminal, and Ctrl-C in an answer."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

import tensorlite as tl
from gpt.chat import __main__ as script
from gpt.chat.conversation import Chat, Conversation, TooLongError, template_for
from gpt.checkpoint import save_model
from gpt.config import PRESETS
from gpt.messages import Turn, messages_of, turns_of
from gpt.model import GPT
from gpt.template import TEMPLATES, Template
from gpt.tokenizer import CharacterTokenizer
from train.instructions import read_dialogues

LETTERS = CharacterTokenizer.train("abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,:?!#\n0123456789")
SHORT = Template(prompt="Q {instruction} A ", prompt_with_input="Q {instruction} {input} A ", between=" ")


def small(context_length=32):
    tl.manual_seed(0)
    model = GPT(replace(PRESETS["tiny"], vocab_size=LETTERS.vocab_size, context_length=context_length))
    with tl.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)  # else every token is as likely as any other
    return model.eval()


def run_folder(path, **config):
    (path / "checkpoints" / "step-1").mkdir(parents=True)
    save_model(small(), path / "checkpoints" / "step-1" / "model.safetensors")
    LETTERS.save(path / "tokenizer.json")
    (path / "config.json").write_text(json.dumps(config))
    return path


def said(*pairs, system=""):
    return Conversation(system, tuple(Turn(asked, "", answer) for asked, answer in pairs))


@pytest.fixture
def run(tmp_path):
    return run_folder(tmp_path / "run")


@pytest.fixture
def talk(run, capsys, monkeypatch):
    def talk(*lines, flags=()):
        waiting = iter(lines)

        def answer(prompt):
            line = next(waiting, None)
            if line is None:
                raise EOFError
            if line is KeyboardInterrupt:
                raise KeyboardInterrupt
            return line

        monkeypatch.setattr("builtins.input", answer)
        script.main(["--model", str(run), "--max-new-tokens", "8", "--seed", "1", *flags])
        return capsys.readouterr().out

    return talk


# The history -------------------------------------------------------------------------------------------


def test_the_oldest_turns_are_left_out():
    chat = Chat(small(32), LETTERS, SHORT)
    conversation = said(("one", "eins"), ("two", "zwei"), ("three", ""))
    assert chat.fit(conversation, 4) == ("Q two A zwei Q three A ", 1)  # 23 of 28; one more turn makes 36
    assert chat.fit(conversation, 1000) == ("Q three A ", 2)  # half the context is the answer's
    assert chat.fit(said(("two", "zwei"), ("three", "")), 4)[1] == 0
    answer = chat.answer(conversation, 4)
    assert answer.left_out == 1 and answer.texts[0].prompt == "Q two A zwei Q three A "


def test_a_system_message_stays():
    chat = Chat(small(32), LETTERS, replace(SHORT, system="{system}! "))
    assert chat.fit(said(("one", "eins"), ("two", ""), system="Be kind"), 8) == ("Be kind! Q two A ", 1)


def test_a_long_question_takes_of_the_answers_room_and_no_more_than_all():
    chat = Chat(small(32), LETTERS, SHORT)
    assert chat.fit(said(("x" * 27, "")), 16) == (f"Q {'x' * 27} A ", 0)
    with pytest.raises(TooLongError, match="the question, with its template, has 33 tokens, and the model can look at"):
        chat.fit(said(("x" * 28, "")), 16)


def test_an_answer_ends_where_the_next_question_would_begin():
    assert TEMPLATES["book"].stop == ("### Instruction:",) and TEMPLATES["plain"].stop == ()
    assert TEMPLATES["phi3"].stop == ("<|end|>", "<|user|>")


def test_seeds_make_answers():
    chat, asked = Chat(small(), LETTERS, SHORT), said(("one", ""))
    answers = [chat.answer(asked, 12, seeds=[3, 4]), chat.answer(asked, 12, seeds=[4])]
    for answer in answers:
        list(answer.steps)
    (three, four), (again,) = (answer.texts for answer in answers)
    assert four.text == again.text != three.text and len(three.row.ids) == 12


def test_messages():
    conversation = said(("one", "eins"), ("two", "zwei"), system="Be kind")
    assert Conversation(*turns_of(messages_of(conversation.system, conversation.turns))) == conversation
    with pytest.raises(ValueError, match=r"from the user to the user.*found user, assistant"):
        turns_of(messages_of("", conversation.turns[:1]), answered=False)
    assert said(("one", "")).answered("eins \n") == said(("one", "eins"))
    assert said(("one", "")).answered(" \n") == said()


def test_a_saved_chat_is_data_for_instruction_tuning(tmp_path):
    conversation = said(("one", "eins"), ("two", "zwei ü"), system="Be kind")
    conversation.save(tmp_path / "chat.json")
    assert Conversation.load(tmp_path / "chat.json") == conversation
    (dialogue,) = read_dialogues(tmp_path / "chat.json")
    assert (dialogue.system, dialogue.turns) == (conversation.system, conversation.turns)
    with pytest.raises(ValueError, match="nothing was said yet"):
        said().save(tmp_path / "empty.json")


def test_the_template_is_the_runs(tmp_path):
    assert template_for(str(run_folder(tmp_path / "a", template="phi3")), "auto") is TEMPLATES["phi3"]
    assert template_for(str(run_folder(tmp_path / "b")), "auto") is TEMPLATES["plain"]
    assert template_for("gpt2", "auto") is TEMPLATES["plain"]
    assert template_for(str(tmp_path / "a"), "book") is TEMPLATES["book"]


# The terminal ------------------------------------------------------------------------------------------


def test_a_chat_its_commands_and_going_on_with_it(talk, tmp_path):
    file = tmp_path / "saved.json"
    out = talk("hello", "and", f"/save {file}", "/temperature 0", "/temperature", "/reset", f"/load {file}", "/quit")
    assert f"Wrote 2 turns to {file}." in out and out.count("The temperature is 0.") == 2
    assert "Forgotten." in out and f"Read 2 turns from {file}." in out
    first, second = (turn for turn in Conversation.load(file).turns)
    assert first.instruction == "hello" and 0 < len(first.output) <= 8 and first.output in out and second.output in out
    again = tmp_path / "again.json"
    assert talk("hello", "and", f"/save {again}") and again.read_text() == file.read_text()  # the same seed
    talk("more", f"/save {again}", flags=["--history", str(file)])
    assert Conversation.load(again).turns[:2] == (first, second) and len(Conversation.load(again).turns) == 3


def test_the_terminal_says_what_is_wrong_and_goes_on(talk, tmp_path):
    (tmp_path / "broken.json").write_text('{"messages": [{"role": "user", "content": "a"}]}')
    out = talk(
        "/sav", "/temperature hot", "/temperature -1", f"/load {tmp_path}/none.json", f"/load {tmp_path}/broken.json",
        f"/save {tmp_path}/no/chat.json", "/save", "ünknown", "x" * 40, KeyboardInterrupt, "", "/help",
        "/system Be kind", "/quit",
    )  # fmt: skip
    assert "there is no /sav; /help lists what there is" in out
    assert "/temperature expects a number from 0 on, got 'hot'" in out
    assert "temperature expects a finite number from 0 on, got -1.0" in out
    assert "No such file or directory" in out
    assert "broken.json is not a chat that can be read: expected user and assistant in turns" in out
    assert "cannot encode 'ü' (U+00FC) at position 0" in out
    assert "the question, with its template, has 40 tokens, and the model can look at 32; shorten it" in out
    assert "(/quit ends the chat)" in out and "/reset        forget what was said" in out
    assert "The system message is set." in out and "nothing was said yet, so there is nothing to save" in out


def test_turns_that_no_longer_fit_are_counted(talk):
    out = talk("a" * 12, "b" * 12, "c" * 12)
    assert "(the first 1 turn no longer fit in the context)" in out
    assert "(the first 2 turns no longer fit in the context)" in out


def test_ctrl_c_ends_an_answer_and_not_the_chat(run, tmp_path):
    file = tmp_path / "chat.json"
    command = [sys.executable, "-m", "gpt.chat", "--model", str(run), "--max-new-tokens", "1000000", "--seed", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            for n in range(2):
                process.stdin.write(b"abc\n")
                process.stdin.flush()
                seen = b""
                while seen.count(b"> ") < 1 or len(seen.partition(b"> ")[2]) < 30:  # well in the answer
                    seen += (more := os.read(process.stdout.fileno(), 1))
                    assert more
                process.send_signal(signal.SIGINT)
                while not seen.endswith(b"(stopped)\n"):
                    seen += (more := os.read(process.stdout.fileno(), 1))
                    assert more, (n, seen)
            out, err = process.communicate(f"/save {file}\n/quit\n".encode(), timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0 and err == b"" and b"Wrote 2 turns" in out
    assert [turn.instruction for turn in Conversation.load(file).turns] == ["abc", "abc"]


def test_bad_options(fails, run, tmp_path):
    def refused(*flags):
        return fails(script.main, "chat", *flags)

    on = ("--model", run)
    assert refused() == "chat: --model is missing: name the folder of a training run, --model runs/NAME, or say gpt2"
    assert "--template llama: expected book, stanford, phi3, plain" in refused(*on, "--template", "llama")
    assert "top_k expects a number from 1 on" in refused(*on, "--top-k", "0")
    assert "--max-new-tokens expects a number from 1 on, got 0" in refused(*on, "--max-new-tokens", "0")
    assert "--port expects a number up to 65535, got 70000" in refused(*on, "--port", "70000")
    assert "--history none.json: [Errno 2]" in refused(*on, "--history", "none.json")
    assert "--history is for the terminal" in refused(*on, "--serve", "--history", "none.json")
    (tmp_path / "list.json").write_text("[]")
    assert "expected one object" in refused(*on, "--history", tmp_path / "list.json")
