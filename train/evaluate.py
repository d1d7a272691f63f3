"""Measuring a trained model: python -m train.evaluate COMMAND"""

from collections.abc import Sequence

from gpt.options import command, run
from train import classification, compare, gpt2_reference, judge, multiple_choice, perplexity

COMMANDS = {
    "perplexity": perplexity.main,
    "classification": classification.main,
    "multiple-choice": multiple_choice.main,
    "judge": judge.main,
    "compare": compare.main,
    "gpt2-reference": gpt2_reference.main,
}


def main(argv: Sequence[str]) -> None:
    command(argv, COMMANDS, "evaluate", "Measure a trained model.")


if __name__ == "__main__":
    run(main, "evaluate")
