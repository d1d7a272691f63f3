"""Optimisers and learning-rate schedules."""

from . import lr_scheduler
from .adamw import Adam, AdamW
from .lion import Lion
from .muon import Muon
from .optimizer import Optimizer
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Lion", "Muon", "Optimizer", "lr_scheduler"]
