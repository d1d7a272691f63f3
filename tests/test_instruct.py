"""Instruction tuning: the book's tokens and templates to the bit, what counts in the loss, runs, and bad input."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import tensorlite as tl
from gpt.checkpoint import latest_weights, load_model
from gpt.config import PRESETS
from gpt.model import GPT
from gpt.options import UsageError
from gpt.template import TEMPLATES, Template, template_named
from gpt.tokenizer import GPT2Tokenizer, WordTokenizer
from tensorlite.nn import functional as F
from train import instruct
from train.collate import Sample, collate, encode, fitting, pack
from train.instructions import Dialogue, Turn, read_dialogues, split

SMALL = "--n-layer 1 --n-head 2 --n-embd 16 --context-length 64 --batch-size 4 --epochs 6 --warmup 2 --lr 0.01".split()
SMALL += "--eval-every 12 --tokenizer words --max-new-tokens 12 --responses 2".split()


def sample(*ids, answer=()):
    return Sample(np.array(ids), np.isin(ids, answer))


def dialogue(*turns, system=""):
    return Dialogue(tuple(Turn(*turn) for turn in turns), system, "FILE, entry 1", {})


@pytest.fixture
def data(tmp_path):
    entries = [
        {"instruction": f"Say the {a} {b}.", "input": "now" * (i % 2), "output": f"the {a} {b}"}
        for i, (a, b) in enumerate((a, b) for a in "red green blue grey".split() for b in "cat dog cow hen fox".split())
    ]
    path = tmp_path / "data.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def train(data, tmp_path, capsys):
    def run(out, *flags):
        instruct.main([*SMALL, "--data", str(data), "--out", str(tmp_path / out), *flags])
        return tmp_path / out, capsys.readouterr().out

    return run


# Batches -----------------------------------------------------------------------------------------------


def test_the_books_worked_example():
    inputs, targets = collate([sample(0, 1, 2, 3, 4), sample(5, 6), sample(7, 8, 9)], 50256)
    assert inputs.tolist() == [[0, 1, 2, 3, 4], [5, 6, 50256, 50256, 50256], [7, 8, 9, 50256, 50256]]
    assert targets.tolist() == [[1, 2, 3, 4, 50256], [6, 50256, -100, -100, -100], [8, 9, 50256, -100, -100]]
    assert inputs.dtype == targets.dtype == tl.int64
    inputs, targets = collate([sample(0, 1, 2, 3, 4), sample(5, 6)], 50256, longest=3)
    assert inputs.tolist() == [[0, 1, 2], [5, 6, 50256]]
    assert targets.tolist() == [[1, 2, 3], [6, 50256, -100]]


def test_a_masked_question_does_not_count_and_the_end_does():
    _, targets = collate([sample(0, 1, 2, 3, answer=[2, 3]), sample(5, 6, answer=[6])], 99, mask_prompt=True)
    assert targets.tolist() == [[-100, 2, 3, 99], [6, 99, -100, -100]]


def test_what_does_not_count_has_no_gradient_at_all():
    _, targets = collate([sample(0, 1, 2, 3, answer=[2, 3]), sample(5, 6, answer=[6])], 9, mask_prompt=True)
    tl.manual_seed(0)
    x = tl.randn(8, 4, requires_grad=True)
    F.linear_cross_entropy(x, tl.randn(10, 4), targets.flatten()).backward()
    counted = targets.flatten().numpy() != -100
    assert not x.grad.numpy()[~counted].any()
    assert x.grad.numpy()[counted].all()


def test_packed_samples_are_the_same_without_padding():
    samples = [sample(0, 1, 2, 3, answer=[2, 3]), sample(5, 6, answer=[6]), sample(7, 8, 9)]
    inputs, targets, lengths = pack(samples, 99)
    assert inputs.tolist() == [[0, 1, 2, 3, 5, 6, 7, 8, 9]] and lengths == [4, 2, 3]
    assert targets.tolist() == [[1, 2, 3, 99, 6, 99, 8, 9, 99]]
    inputs, targets, lengths = pack(samples, 99, mask_prompt=True, longest=2)
    assert inputs.tolist() == [[0, 1, 5, 6, 7, 8]] and lengths == [2, 2, 2]
    assert targets.tolist() == [[-100, 2, 6, 99, -100, -100]]


@pytest.mark.parametrize("mask_prompt", [False, True])
def test_a_packed_batch_has_the_loss_and_the_gradients_of_a_padded_one(mask_prompt):
    tl.manual_seed(0)
    model = GPT(replace(PRESETS["tiny"], vocab_size=50, context_length=16))
    rng = np.random.default_rng(0)
    samples = [Sample(rng.integers(0, 49, n), np.arange(n) > n // 2) for n in (3, 15, 7, 20, 9)]
    losses, gradients = [], []
    for form in (collate, pack):
        loss = instruct.batch_loss(model, form(samples, 49, mask_prompt, 16))
        loss.backward()
        losses.append(loss.item())
        gradients.append([p.grad.numpy().copy() for p in model.parameters()])
        model.zero_grad()
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
    for padded, packed in zip(*gradients):
        np.testing.assert_allclose(packed, padded, rtol=0, atol=1e-6)


def test_the_books_tokens(data_dir, gpt2_vocabulary):
    """Each text as the book writes it, encoded at once, and its split."""
    dialogues, tokenizer = read_dialogues(data_dir / "instruction-data.json"), GPT2Tokenizer()
    entries = json.loads((data_dir / "instruction-data.json").read_text())
    assert [len(part) for part in split(dialogues, 0.85, 0.1)] == [935, 55, 110]
    assert split(dialogues, 0.85, 0.1)[2][0].entry == entries[935]
    for one, entry in zip(dialogues[::50], entries[::50]):
        text = (
            "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        )
        text += f"\n\n### Instruction:\n{entry['instruction']}"
        text += f"\n\n### Input:\n{entry['input']}" if entry["input"] else ""
        encoded = encode(one, TEMPLATES["book"], tokenizer)
        assert encoded.ids.tolist() == tokenizer.encode(f"{text}\n\n### Response:\n{entry['output']}")
        assert tokenizer.decode(encoded.ids[encoded.answer]) == entry["output"]


# Templates ---------------------------------------------------------------------------------------------


def test_templates():
    one, two = Turn("Add.", "1 {input} 2", "3"), Turn("And now?", "", "4")
    stanford, phi3 = TEMPLATES["stanford"], TEMPLATES["phi3"]
    assert stanford.question([one]) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 {input} 2"
        "\n\n### Response:"
    )
    assert stanford.question([two]).endswith("task. Write a response that appropriately completes the request.\n\n"
                                             "### Instruction:\nAnd now?\n\n### Response:")  # fmt: skip
    assert phi3.question([one, two], "Be brief.") == (
        "<|system|>\nBe brief.<|end|>\n<|user|>\nAdd.\n1 {input} 2<|end|>\n<|assistant|>\n3<|end|>\n"
        "<|user|>\nAnd now?<|end|>\n<|assistant|>\n"
    )
    assert phi3.answer(two) == "4<|end|>"


def test_every_answer_of_a_chat_counts():
    chat = dialogue(("say red", "", "red"), ("say blue", "", "blue ."), system="be kind")
    template = Template(prompt="ask: {instruction} tell: ", prompt_with_input="{instruction}{input}", between=" ")
    tokenizer = WordTokenizer.train("ask : say red blue tell be kind .")
    encoded = encode(chat, template, tokenizer)
    assert tokenizer.decode(encoded.ids) == "be kind ask: say red tell: red ask: say blue tell: blue."
    assert tokenizer.decode(encoded.ids[encoded.answer]) == "red blue."


def test_a_template_of_ones_own(tmp_path):
    path = tmp_path / "mine.json"
    mine = {"prompt": "Q {instruction} A ", "prompt_with_input": "Q {instruction} {input} A "}
    path.write_text(json.dumps(mine))
    assert template_named(str(path)).question([Turn("x", "y", "z")]) == "Q x y A "
    for content, message in (
        ({**mine, "promt": ""}, "unknown key 'promt'; the keys are prompt, "),
        ({"prompt": "Q", "prompt_with_input": ""}, r"prompt does not contain {instruction}: 'Q'"),
        (["Q"], "expected an object of texts"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(UsageError, match=message):
            template_named(str(path))
    with pytest.raises(UsageError, match="expected book, stanford, phi3, plain or a JSON file"):
        template_named("llama")


def test_texts_that_do_not_fit_are_counted(capsys):
    long, short = sample(1, 2, 3, 4, answer=[3, 4]), sample(1, 2, answer=[2])
    assert fitting([long, short], 2, "training") == [short]
    assert capsys.readouterr().err == (
        "1 of 2 training texts are longer than 2 tokens: cut there; 1 of these have no answer before that and are "
        "left out\n"
    )
    assert fitting([long, short], 3, "test") == [long, short]
    assert capsys.readouterr().err == "1 of 2 test texts are longer than 3 tokens: cut there\n"
    with pytest.raises(UsageError, match="no answer of the test part begins within the model's 1 tokens"):
        fitting([long], 1, "test")


# Files -------------------------------------------------------------------------------------------------


def test_the_forms_of_data(tmp_path):
    chat = {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi."},
                         {"role": "assistant", "content": "Hello."}]}  # fmt: skip
    alpaca = {"instruction": "Hi.", "output": "Hello.", "id": 1}
    (tmp_path / "list.json").write_text(json.dumps([chat, alpaca]))
    (tmp_path / "lines.jsonl").write_text(json.dumps(chat) + "\n\n" + json.dumps(alpaca))
    for name, place in (("list.json", "entry 2"), ("lines.jsonl", "line 3")):
        first, second = read_dialogues(tmp_path / name)
        assert first.turns == second.turns == (Turn("Hi.", "", "Hello."),)
        assert (first.system, second.system, second.entry) == ("Be kind.", "", alpaca)
        assert second.where == f"{tmp_path / name}, {place}"


@pytest.mark.parametrize(
    "content, message",
    [
        ('[\n{"instruction": "a"\n]', "line 3: not JSON"),
        ('{"instruction": "a", "output": "b"}\n{"instr', "line 2: not JSON.*a list of objects, or one in each line"),
        ('[{"instruction": "a", "output": "b"}, 5]', "entry 2: expected an object, found 5"),
        ('[{"question": "a", "answer": "b"}]', "entry 1: expected the keys instruction, output .*found question"),
        ('[{"instruction": "a", "output": " "}]', "entry 1: the output is empty"),
        ('[{"messages": "a"}]', "entry 1: messages expects a list of objects with the texts role and content"),
        ('[{"messages": [{"role": "user", "content": "a"}]}]', "expected user and assistant in turns.*found user"),
        ("[]", "there is nothing in it"),
    ],
)  # fmt: skip
def test_a_file_in_the_wrong_form_is_refused_with_its_place(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        read_dialogues(tmp_path / "a.json")


# Runs --------------------------------------------------------------------------------------------------


def test_a_run_learns_and_answers_the_test_part(train, data):
    run, printed = train("a")
    losses = [json.loads(line)["val_loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [loss for loss in losses if loss is not None]
    assert losses[-1] < losses[0] - 1
    answers = json.loads((run / "responses.json").read_text())
    assert [{key: a[key] for key in ("instruction", "input", "output")} for a in answers] == json.loads(
        data.read_text()
    )[17:19]
    assert all(isinstance(a["model_response"], str) for a in answers)
    assert "% padding" in printed and "validation loss" in printed
    assert load_model(latest_weights(run)).config.context_length == 64


@pytest.mark.parametrize(
    "flags",
    [
        ["--dropout", "0.1", "--mask-prompt"],
        ["--dropout", "0.1", "--pack", "--no-bucket"],
        ["--train", "lora", "--lora-rank", "2"],
        ["--train", "last"],
    ],
)
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(train, flags):
    both = ["--schedule", "constant", "--responses", "0", *flags]
    whole, _ = train("whole", *both, "--steps", "7")
    part, _ = train("part", *both, "--steps", "4")
    instruct.main(["--resume", str(part), "--steps", "7"])
    a, b = (load_model(latest_weights(run)).state_dict() for run in (whole, part))
    assert all(np.array_equal(a[name].numpy(), b[name].numpy()) for name in a)


def test_a_packed_run_learns_what_a_padded_one_learns(train):
    """The same batches: sums in another order are all that differs."""
    runs = [train(name, "--responses", "0", "--steps", "4", *flags) for name, flags in (("a", []), ("b", ["--pack"]))]
    assert "and 0.0% padding" in runs[1][1]
    a, b = (load_model(latest_weights(run)).state_dict() for run, _ in runs)
    for name in a:
        np.testing.assert_allclose(b[name].numpy(), a[name].numpy(), rtol=0, atol=1e-4, err_msg=name)


def test_bad_input_is_one_line_that_says_what_to_do(tmp_path, data, fails):
    refused = partial(fails, instruct.main, "instruct")
    ok = ["--data", data, "--out", tmp_path / "out"]
    assert "--data is missing: name a JSON file" in refused()
    assert "--template llama: expected book, stanford, phi3" in refused(*ok, "--template", "llama")
    assert "has no <|endoftext|>, which ends an answer; take gpt2 or words" in refused(*ok, "--tokenizer", "characters")
    assert "leave something to validate with" in refused(*ok, "--train-fraction", "0.9")
    data.write_text(json.dumps(json.loads(data.read_text())[:3]))
    assert "the test part of 3 examples is empty" in refused(*ok)
    assert not (tmp_path / "out").exists()
