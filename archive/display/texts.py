"""Text for people: safe names, sizes, columns, and values as Python spells them, cut to a length."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

__all__ = [
    "counted",
    "dict_text",
    "elided",
    "fields_text",
    "lined_up",
    "middle_elided",
    "printable",
    "shape",
    "size",
    "spelled",
    "value_text",
]

ROOM = 1000
"""Longest text that stays as Python spells it."""
_ITEM_ROOM = 200
"""Longest text of one item of what is longer."""


def printable(text: str) -> str:
    r"""Return text with everything escaped that a terminal would act on rather than show.

    Names come from files that somebody else may have made: control characters, direction marks, line
    separators and lone surrogates are escaped as in a Python str.

    Examples
    --------
    >>> print(printable("layer\x1b[2J\n"), printable("größe"))
    layer\x1b[2J\n größe
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def size(nbytes: int) -> str:
    """Return a number of bytes for people.

    Examples
    --------
    >>> size(812), size(12360), size(5 << 30)
    ('812 bytes', '12.1 KiB', '5.0 GiB')
    """
    if nbytes < 1024:
        return f"{nbytes} bytes"
    value, unit = nbytes / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}"


def counted(number: int, noun: str) -> str:
    """Return a number and its noun.

    Examples
    --------
    >>> counted(1, "array"), counted(20000, "array")
    ('1 array', '20,000 arrays')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def shape(lengths: Sequence[int]) -> str:
    """Return a shape without spaces, so that a listing can be cut into fields.

    Examples
    --------
    >>> shape((32, 64)), shape((7,)), shape(())
    ('(32,64)', '(7,)', '()')
    """
    return repr(tuple(lengths)).replace(" ", "")


WIDEST = 200
"""Cells of a field that others are lined up with: one name of a megabyte must not widen every line."""


def lined_up(rows: Sequence[Sequence[str]], indent: str = "", width: Callable[[str], int] = len) -> list[str]:
    """Return rows as lines whose fields stand under one another.

    Parameters
    ----------
    rows : sequence of sequences of str
    indent : str, default ""
        Begins every line.
    width : callable, default len
        Returns the cells of a terminal that a field takes.

    Examples
    --------
    >>> lined_up([["a", "float32", "4"], ["bias", "int8"]])
    ['a     float32  4', 'bias  int8']
    """
    widths: dict[int, int] = {}
    for row in rows:
        for place, field in enumerate(row):
            cells = width(field)
            widths[place] = max(widths.get(place, 0), cells if cells <= WIDEST else 0)
    return [
        indent
        + "  ".join(field + " " * (widths[place] - width(field)) for place, field in enumerate(row)).rstrip()
        for row in rows
    ]


def elided(text: str, length: int = 72) -> str:
    """Return text cut to a length, with dots at the end.

    Examples
    --------
    >>> elided("x" * 100, 10)
    'xxxxxxx...'
    """
    return text if len(text) <= length else text[: length - 3] + "..."


def middle_elided(text: str, length: int = 60) -> str:
    r"""Return printable text cut to a length, with dots in the middle: names often begin alike.

    Examples
    --------
    >>> middle_elided("layers.0." + "x" * 100 + ".weight", 20), middle_elided("a\n")
    ('layers.0....x.weight', 'a\\n')
    """
    if len(text) > length:  # before it is escaped: a name may be megabytes long
        half = (length - 3) // 2
        text = text[: length - 3 - half] + "..." + text[-half:]
    text = printable(text)
    return text if len(text) <= length else middle_elided(text, length)


def spelled(value: object, room: int = ROOM) -> str | None:
    """Return ``repr(value)``; None where that has more than ``room`` characters, found without making it all.

    Examples
    --------
    >>> spelled([1.5, "a"]), spelled([0.5] * 10**6), spelled(b"x" * 10**6)
    ("[1.5, 'a']", None, None)
    """
    kind = type(value).__repr__
    if isinstance(value, (str, bytes)) and len(value) > room:
        return None
    if isinstance(value, int) and value.bit_length() > 3 * room:  # Python refuses to spell very long ones
        return None
    if isinstance(value, (list, tuple)) and kind in (list.__repr__, tuple.__repr__):
        inner = _joined((spelled(item, room) for item in value), room)
        ends = "[]" if isinstance(value, list) else "()"
        comma = "," * (len(value) == 1 and isinstance(value, tuple))
        text = None if inner is None else f"{ends[0]}{inner}{comma}{ends[1]}"
    elif isinstance(value, dict) and kind is dict.__repr__:
        text = dict_text(value.items(), room)
    else:
        text = repr(value)
        if "\n" in text:  # a summary in itself
            return None
    return text if text is not None and len(text) <= room else None


def dict_text(items: Iterable[tuple[Any, Any]], room: int = ROOM) -> str | None:
    """Return items as a dict spells them; None where that has more than ``room`` characters."""

    def pair(key: Any, value: Any) -> str | None:
        parts = spelled(key, room), spelled(value, room)
        return None if None in parts else f"{parts[0]}: {parts[1]}"

    inner = _joined((pair(key, value) for key, value in items), room)
    return None if inner is None else f"{{{inner}}}"


def value_text(value: object, room: int = 60) -> str:
    """Return ``repr(value)`` where it has at most ``room`` characters, else its beginning and its length.

    Examples
    --------
    >>> value_text([0.5] * 3000, 30), value_text("x" * 65536, 40), value_text(2**100000)
    ('[0.5, 0.5, ... 2,998 more]', "'xxxxxxxxxxxxx'... 65,536 characters", '<int of 100,001 bits>')
    """
    text = spelled(value, room)
    if text is not None:
        return text
    if isinstance(value, (str, bytes)):
        length = f"... {len(value):,} {'bytes' if isinstance(value, bytes) else 'characters'}"
        shown = max(room - len(length) - 6, 8)
        while len(repr(value[:shown])) + len(length) > room and shown > 1:
            shown //= 2
        return repr(value[:shown]) + length
    if isinstance(value, int):
        return f"<int of {value.bit_length():,} bits>"
    if isinstance(value, (list, tuple)):
        ends = "[]" if isinstance(value, list) else "()"
        return ends[0] + _begun((value_text(item, _ITEM_ROOM) for item in value), len(value), room) + ends[1]
    if isinstance(value, dict):
        pairs = (f"{value_text(k, _ITEM_ROOM)}: {value_text(v, _ITEM_ROOM)}" for k, v in value.items())
        return "{" + _begun(pairs, len(value), room) + "}"
    return elided(printable(repr(value)), room)


def fields_text(value: Any, room: int = ROOM) -> str:
    """Return the text of a dataclass or named tuple as Python makes it, each field cut to ``room``.

    Examples
    --------
    >>> @dataclasses.dataclass(repr=False)
    ... class Found:
    ...     ok: bool
    ...     names: tuple[str, ...]
    ...     __repr__ = fields_text
    >>> Found(True, ("a",)), Found(False, ("layer",) * 20000)  # doctest: +ELLIPSIS
    (Found(ok=True, names=('a',)), Found(ok=False, names=('layer', 'layer', ... more)))
    """
    fields = getattr(value, "_fields", ())  # of a named tuple
    names = fields or [field.name for field in dataclasses.fields(value) if field.repr]
    parts = [f"{name}={value_text(getattr(value, name), room)}" for name in names]
    return f"{type(value).__qualname__}({', '.join(parts)})"


def _joined(texts: Iterable[str | None], room: int) -> str | None:
    """Return texts with commas between them; None as soon as they are too long, or one of them is."""
    found, length = [], 0
    for text in texts:
        length += 0 if text is None else len(text) + 2
        if text is None or length > room:
            return None
        found.append(text)
    return ", ".join(found)


def _begun(texts: Iterable[str], count: int, room: int) -> str:
    """Return the first of so many texts, at least one, and how many more there are."""
    found: list[str] = []
    length = len(f"... {count:,} more")
    for text in islice(texts, count):
        length += len(text) + 2
        if found and length > room - 2:
            break
        found.append(text)
    rest = count - len(found)
    return ", ".join(found) + f", ... {rest:,} more" * (rest > 0)
