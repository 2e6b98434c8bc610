"""The ``progress`` argument: None, a callable, or True for a bar."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["Bar", "Progress", "Report"]

Report = Callable[[int, int], object]
"""Called with bytes done and bytes in all."""
Progress = bool | Report | None
"""The argument of a call."""


class Bar:
    """The callable that reports progress: the caller's, that of a tqdm bar, or None."""

    def __init__(self, progress: Progress, label: str, unit: str = "B") -> None:
        self._call = progress if callable(progress) else None
        self._bar: Any = None
        if progress is True:
            self._bar = importlib.import_module("tqdm").tqdm(unit=unit, unit_scale=True, desc=label)
            self._call = self._advance

    def __enter__(self) -> Report | None:
        return self._call

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _advance(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)
