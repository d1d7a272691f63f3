"""Measuring a trained model: python -m train.evaluate gpt2-reference"""

from collections.abc import Sequence

from gpt.options import command, run
from train import gpt2_reference


def main(argv: Sequence[str]) -> None:
    command(argv, {"gpt2-reference": gpt2_reference.main}, "evaluate", "Measure a trained model.")


if __name__ == "__main__":
    run(main, "evaluate")
