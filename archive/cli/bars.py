"""Progress bars on terminals; no bar where nobody looks or tqdm is not installed."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from archive.cli.output import is_text
from archive.cli.style import is_terminal
from archive.engine.progress import Report

__all__ = ["ProgressBar", "progress_of"]


class ProgressBar:
    """A bar on stderr that goes when its work is done, or nothing at all."""

    def __init__(self, tqdm: Any, label: str, unit: str) -> None:
        self._tqdm, self._label, self._unit = tqdm, label, unit
        self._bar: Any = None

    @property
    def report(self) -> Report | None:
        """What the ``progress=`` of a call takes."""
        return None if self._tqdm is None else self._advance

    def say(self, line: str) -> None:
        """Print a line at once, above the bar."""
        with self.paused():
            print(line, flush=True)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Take the bar away while something else is printed."""
        if self._bar is None:
            yield
        else:
            with self._tqdm.external_write_mode(file=sys.stdout):
                yield

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _advance(self, done: int, total: int) -> None:
        if self._bar is None and done < total:
            self._bar = self._tqdm(
                desc=self._label, unit=self._unit, unit_scale=self._unit == "B", total=total, leave=False
            )
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        if done >= total:
            self.close()


@contextlib.contextmanager
def progress_of(arguments: argparse.Namespace, label: str, unit: str = "B") -> Iterator[ProgressBar]:
    """Yield the progress bar of a command, which says what is done and in what unit.

    Parameters
    ----------
    arguments : argparse.Namespace
    label : str
        What is done, such as ``"copying"``.
    unit : str
        What is counted; bytes are shown with their prefixes.
    """
    # JSON and CSV on the same terminal would mix with it
    seen = is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
    tqdm = _find_tqdm() if seen and (is_text(arguments) or not is_terminal(sys.stdout)) else None
    bar = ProgressBar(tqdm, label, unit)
    try:
        yield bar
    finally:
        bar.close()


def _find_tqdm() -> Any:
    """Return the class of tqdm, or None: it is an extra."""
    try:
        return importlib.import_module("tqdm").tqdm
    except ImportError:
        return None
