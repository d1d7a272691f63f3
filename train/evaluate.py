"""Measuring a trained model: python -m train.evaluate COMMAND"""

from collections.abc import Sequence

from gpt.options import command, run
from train import gpt2_reference, perplexity

COMMANDS = {"perplexity": perplexity.main, "gpt2-reference": gpt2_reference.main}


def main(argv: Sequence[str]) -> None:
    command(argv, COMMANDS, "evaluate", "Measure a trained model.")


if __name__ == "__main__":
    run(main, "evaluate")
