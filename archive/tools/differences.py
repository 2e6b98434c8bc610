"""What `diff` found: arrays and values in which two archives differ, and its short text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from archive.display.shortfields import ShortFields
from archive.display.texts import middle_elided, value_text

__all__ = ["ArrayDiff", "Diff", "ValueDiff"]

SHOWN = 10
"""Lines of each list in ``str(diff)``."""


@dataclass(frozen=True, slots=True, repr=False)
class ArrayDiff(ShortFields):
    """An array of both archives that is not the same in both."""

    record: str
    key: str
    differs: tuple[str, ...]
    """Of ``dtype``, ``shape``, ``stype``, ``order`` (row-major or column-major) and ``values``."""
    dtype: tuple[str, str]
    """Of a and of b, and so are the next two."""
    shape: tuple[tuple[int, ...], tuple[int, ...]]
    stype: tuple[str, str]
    compared: bool = False
    """Whether elements were compared as numbers; otherwise the fields below say nothing."""
    elements: int = 0
    different: int = 0
    """Elements that differ by more than the tolerance."""
    nan: int = 0
    """Elements that are NaN in one of the two."""
    max_abs: float = 0.0
    """The largest ``|a - b|``, of all elements but NaN."""
    max_rel: float = 0.0
    """The largest ``|a - b| / |b|``; infinite where b alone is zero."""
    norm: float = 0.0
    """L2 norm of ``a - b``; pairs with a NaN are left out of it, and of what follows."""
    relative_norm: float = 0.0
    """`norm`, divided by the norm of b."""
    cosine: float = 1.0
    """Cosine of the angle between a and b; NaN where one of them is zero."""

    def __str__(self) -> str:
        name = middle_elided(f"{self.record}/{self.key}")
        facts = [
            f"{word} {middle_elided(_pair(*getattr(self, word)))}"
            for word in ("dtype", "shape", "stype")
            if word in self.differs
        ]
        facts += ["order"] if "order" in self.differs else []
        if self.compared:
            facts.append(f"{self.different} of {self.elements} elements differ")
        elif "values" in self.differs:
            facts.append("elements differ")
        if self.compared and (self.different or self.max_abs):
            facts.append(f"max abs {self.max_abs:.6g}, max rel {self.max_rel:.6g}")
            facts.append(
                f"norm {self.norm:.6g} (relative {self.relative_norm:.6g}), cosine {self.cosine:.6g}"
            )
        facts += [f"{self.nan} NaN on one side"] if self.nan else []
        return f"{name}: {'; '.join(facts)}"


@dataclass(frozen=True, slots=True, repr=False)
class ValueDiff(ShortFields):
    """Something beside arrays that is not the same in both archives."""

    kind: str
    """``metrics``, ``configs`` or ``attributes``; ``context``; ``container``; ``record`` where one archive
    has an empty record; ``order`` where a record has its arrays in another order: then the first that
    differ."""
    record: str
    key: str
    a: Any
    """None where a has no such value."""
    b: Any
    """None where b has no such value."""

    def __str__(self) -> str:
        name = "/".join(filter(None, (self.kind, self.record, self.key)))
        values = ("nothing" if value is None else value_text(value) for value in (self.a, self.b))
        return f"{middle_elided(name)}: {_pair(*values)}"


@dataclass(frozen=True, slots=True, repr=False)
class Diff(ShortFields):
    """How two archives differ. It is no truth value: ask `equal`."""

    a: str
    """Path or URL of the first."""
    b: str
    """Path or URL of the second."""
    only_a: tuple[tuple[str, str], ...] = ()
    """(record, key) of the arrays that b lacks."""
    only_b: tuple[tuple[str, str], ...] = ()
    """(record, key) of the arrays that a lacks."""
    changed: tuple[ArrayDiff, ...] = ()
    """Arrays of both that are not the same, in the order of a."""
    same: int = 0
    """Number of the arrays that are the same, to the tolerance."""
    values: tuple[ValueDiff, ...] = ()
    """What else is not the same: metrics, configs, attributes, context, order."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not (self.only_a or self.only_b or self.changed or self.values)

    def __bool__(self) -> NoReturn:
        # a condition could mean either: that they differ, or that they are equal
        raise TypeError("a Diff is neither true nor false; ask diff.equal")

    def __str__(self) -> str:
        return "\n".join(self.lines(SHOWN))

    def lines(self, most: int | None = None) -> Iterator[str]:
        """Yield the report line by line, each list cut to so many lines."""
        yield f"a: {middle_elided(self.a, 200)}"
        yield f"b: {middle_elided(self.b, 200)}"
        if self.equal:
            yield f"equal: {self.same} arrays"
            return
        yield (
            f"arrays: {self.same} equal, {len(self.changed)} changed, {len(self.only_a)} only in a, "
            f"{len(self.only_b)} only in b"
        )
        yield from _cut("~ ", self.changed, most)
        yield from _cut("- ", (middle_elided("/".join(name)) for name in self.only_a), most)
        yield from _cut("+ ", (middle_elided("/".join(name)) for name in self.only_b), most)
        if self.values:
            yield f"values: {len(self.values)} changed"
            yield from _cut("~ ", self.values, most)


def _cut(mark: str, items: Iterable[object], most: int | None) -> Iterator[str]:
    left = 0
    for place, item in enumerate(items):
        if most is not None and place >= most:
            left += 1
        else:
            yield f"  {mark}{item}"
    if left:
        yield f"  and {left} more"


def _pair(a: object, b: object) -> str:
    return f"{a} -> {b}"
