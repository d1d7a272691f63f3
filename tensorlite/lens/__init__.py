"""Studying backprop by hand, on one's own program.

    from tensorlite import lens

    with lens.record() as tape:
        loss = model(x).cross_entropy(y)
        loss.backward()

    print(tape)                            a line per step of the backward walk
    tape.html("step.html")                 a page to step through it
    print(tape.as_numpy())                 the same program by hand: NumPy alone, forward and backward
    lens.exercise(loss, "exercise.py")     the forward, and blanks to fill for the backward
    lens.compare("dlogits", mine)          exact, close or wrong, and why

docs/lens.md is the guide. `import tensorlite` does not import this package, and the engine does not know it.
"""

from .attention import attention_maps
from .compare import Comparison
from .exercise import compare_latest as compare
from .exercise import exercise, open_exercise
from .program import Call, Step, Value, Visit
from .tape import Tape, explain, record

__all__ = [
    "Call", "Comparison", "Step", "Tape", "Value", "Visit",
    "attention_maps", "compare", "exercise", "explain", "open_exercise", "record",
]  # fmt: skip
