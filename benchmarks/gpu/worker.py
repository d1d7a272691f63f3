"""What the process of a part does: call its function, write each row when it comes."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict

from benchmarks.gpu.parts import SKIPPED, MissingError


def work(function: str, arguments: str, path: str) -> int:
    """Call "module:name" with arguments in JSON, and add its rows to a file."""
    module, _, name = function.partition(":")
    with open(path, "a", encoding="utf-8") as file:
        try:
            for row in getattr(importlib.import_module(module), name)(**json.loads(arguments)):
                file.write(json.dumps(asdict(row)) + "\n")
                file.flush()
        except MissingError as reason:
            print(reason)
            return SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(work(*sys.argv[1:]))
