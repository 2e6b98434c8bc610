"""Selection of clients that does not depend on what a run did before, and warnings where it may differ."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Container, Iterable, Iterator

__all__ = ["Selection"]


class Selection:
    """Selection of clients by a seed, the round and the phase alone.

    Parameters
    ----------
    seed : int or None
        None leaves the selection to Flower.
    warn : callable
        Takes a text, and logs that text once.
    """

    def __init__(self, seed: int | None, warn: Callable[[str], None]) -> None:
        self._seed = seed
        self._warn = warn
        self._now = ""
        self._available = 0

    @contextlib.contextmanager
    def of(self, number: int, phase: str) -> Iterator[None]:
        """Seed Python's global generator, from which Flower draws clients, and bring it back at the end.

        Examples
        --------
        >>> selection = Selection(7, print)
        >>> with selection.of(3, "train"):
        ...     first = random.random()
        >>> _ = random.random()
        >>> with selection.of(3, "train"):
        ...     first == random.random()
        True
        """
        if self._seed is None:
            yield
            return
        before = random.getstate()
        self._now = f"{self._seed}/{number}/{phase}"
        self.begin_again()
        try:
            yield
        finally:
            random.setstate(before)

    def begin_again(self) -> None:
        """Seed the generator of `of` once more: Flower's threads and requests advance it meanwhile."""
        random.seed(self._now)

    def require_names(self, nodes: Iterable[str], known: Container[str]) -> None:
        """Warn of nodes that did not tell their names: they are ordered by their ids."""
        silent = [node for node in nodes if node not in known]
        if silent:
            self._warn(
                f"{len(silent)} nodes did not tell their names, so that the run is not deterministic: they "
                "do not answer, or their ClientApp lacks persist_state among its mods, and errors of a "
                f"client that misses arrays in a message come from this question; the first is {silent[0]}"
            )

    def count_available(self, nodes: int) -> None:
        """Warn where clients are selected among another number of nodes than before."""
        before, self._available = self._available, nodes
        if before not in (0, nodes):
            self._warn(
                f"clients are selected among {nodes} nodes, and before among {before}: where a part is "
                "sampled, other runs select others; let the strategy wait for all nodes (min_available_nodes)"
            )
