"""Weights & Biases, where a run asks for it. Without it, the package is not even imported."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from .settings import Settings, TrainingError


class Tracker(Protocol):
    """What takes the figures of a run; nothing, or one of W&B's runs."""

    def log(self, figures: Mapping[str, float], step: int) -> None: ...  # noqa: D102
    def finish(self) -> None: ...  # noqa: D102


class Silent:
    """``wandb_log = False``."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Nobody asked."""

    def finish(self) -> None:
        """Nothing to end."""


def tracker(settings: Settings, out_dir: Path) -> Tracker:
    """Raises TrainingError: W&B is asked for and not installed."""
    if not settings.wandb_log:
        return Silent()
    try:
        wandb = importlib.import_module("wandb")
    except ModuleNotFoundError as error:
        raise TrainingError(f"wandb_log=True, and {error.name} is not installed: pip install wandb, or --wandb_log=False") from None
    found: Tracker = wandb.init(project=settings.wandb_project, name=out_dir.resolve().name, config=asdict(settings))
    return found
