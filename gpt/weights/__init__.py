"""GPT-2's weights, in the formats in which they are found.

    model = load("gpt2")                    # the hub's, from its cache or downloaded; the same as GPT.from_pretrained
    model = load("models/124M")             # OpenAI's TensorFlow checkpoint
    model = load("gpt2_124M_bf16.bin")      # llm.c's
    save_hub(model, "my-gpt2")              # for transformers
    save_llmc(model, "my-gpt2.bin")

Files are mapped, so that a model of n bytes takes n bytes, and nothing is read or allocated before every name, shape
and dtype has been held against the configuration.
"""

from gpt.weights.hub import save_hub
from gpt.weights.llmc import save_llmc
from gpt.weights.load import find, load, settle

__all__ = ["find", "load", "save_hub", "save_llmc", "settle"]
