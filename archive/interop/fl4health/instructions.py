"""What the server says with every message, in its config: which attempt of the run it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from archive.interop.flower import letters
from archive.interop.flower.orders import Order

__all__ = ["KEY", "ROUND", "ask_for_orders", "order_of"]

KEY = "fedarchive.states"
"""Key of the config that carries an order; `Resumable` has a key of its own, and hears reports."""
ROUND = "current_server_round"
"""Key of the config that carries the round, which FL4Health's clients need."""

_CONFIGURE = ("configure_fit", "configure_evaluate", "configure_fit_all")
_INNER = "_fedarchive_inner"


def ask_for_orders(strategy: Any, order: Callable[[int], Order]) -> None:
    """Make a strategy put an order into the config of every message of a round."""
    for name in _CONFIGURE:
        if hasattr(strategy, name):
            inner = getattr(strategy, name)
            setattr(strategy, name, _with_order(getattr(inner, _INNER, inner), order))


def _with_order(inner: Callable[..., Any], order: Callable[[int], Order]) -> Callable[..., Any]:
    @wraps(inner)
    def configure(server_round: int, *args: Any, **keywords: Any) -> Any:
        pairs = inner(server_round, *args, **keywords)
        text = order(server_round).to_text()
        for _, instructions in pairs:
            instructions.config = {**instructions.config, KEY: text}
        return pairs

    setattr(configure, _INNER, inner)
    return configure


def order_of(config: Mapping[str, Any]) -> tuple[Order | None, dict[str, Any]]:
    """Return the order in a config, and the config without it.

    Raises
    ------
    ValueRangeError
        No server of this package made the order.

    Examples
    --------
    >>> order_of({"current_server_round": 3})
    (None, {'current_server_round': 3})
    """
    rest = dict(config)
    texts = [rest.pop(key) for key in (KEY, letters.KEY) if key in rest]
    return (Order.from_text(texts[0]) if texts else None), rest
