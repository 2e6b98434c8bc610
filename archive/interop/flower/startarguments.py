"""The arguments of a strategy's ``start``, by the names that Flower's own ``start`` gives them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Any

from archive.interop.flower.releases import flower

__all__ = ["StartArguments"]

_NEEDED = ("grid", "initial_arrays", "num_rounds")


class StartArguments:
    """What a ``start`` was called with.

    A subclass may give ``start`` parameters of its own, or take ``*args, **kwargs`` and hand them on.
    Therefore a name is looked for among its parameters, then among what was given by name, then by position
    as in Flower's ``start``; and arguments are passed on as they were given.

    Parameters
    ----------
    start : callable
        The bound method that is called next.
    args, kwargs
        What it is called with.

    Raises
    ------
    TypeError
        As the call would raise it; or the grid, the first arrays or the number of rounds were not given,
        because ``start`` has them from elsewhere.
    """

    def __init__(self, start: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        signature = inspect.signature(start)
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        self.args, self.kwargs = list(args), dict(kwargs)
        self._own = _positional(signature)
        self._flowers = _positional(inspect.signature(flower().Strategy.start))[1:]
        hidden = dict(zip(self._flowers, args, strict=False)) | self.kwargs
        self._values = hidden | {
            name: given.arguments[name]
            for name, parameter in signature.parameters.items()
            if parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        }
        if missing := [name for name in _NEEDED if name not in self._values]:
            raise TypeError(
                f"{getattr(start, '__qualname__', 'start')} was not given {', '.join(missing)}, "
                "which a saved run depends on: add such a parameter to start, and pass it in the call"
            )

    def __getitem__(self, name: str) -> Any:
        """Return an argument; None where there is none."""
        return self._values.get(name)

    def replace(self, name: str, value: Any) -> None:
        """Pass another value on, of an argument that was given."""
        order = self._own if name in self._own else self._flowers
        if name not in self.kwargs and name in order[: len(self.args)]:
            self.args[order.index(name)] = value
        else:
            self.kwargs[name] = value


def _positional(signature: inspect.Signature) -> list[str]:
    """Return the names of parameters that may be given by position, in their order."""
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, parameter in signature.parameters.items() if parameter.kind in kinds]
