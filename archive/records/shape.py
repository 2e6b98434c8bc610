"""Shape: the lengths of an Array's axes, comparable with tuples and lists."""

from __future__ import annotations

__all__ = ["Shape"]


class Shape(tuple[int, ...]):
    """Lengths of the axes: a tuple that also equals the same list.

    Flower kept ``Array.shape`` as a list until 1.17 and has kept a tuple since; code compares with both.

    Examples
    --------
    >>> Shape([2, 3]) == [2, 3] == Shape((2, 3)) == (2, 3)
    True
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """Compare with a tuple or a list."""
        return tuple.__eq__(self, tuple(other) if isinstance(other, list) else other)

    def __ne__(self, other: object) -> bool:
        """Compare with a tuple or a list."""
        return tuple.__ne__(self, tuple(other) if isinstance(other, list) else other)

    def __hash__(self) -> int:
        """Hash as a tuple."""
        return tuple.__hash__(self)
