"""Fields of a dataclass as HTML: one line each, and a table of each that holds several things."""

from __future__ import annotations

import dataclasses
from typing import Any

from archive.display.markup import HTML_ROWS, summary_html
from archive.display.summaries import Row, Section, Summary, places
from archive.display.texts import value_text

__all__ = ["fields_html"]

_ROOM = 150
"""Longest text of a value."""


def fields_html(value: Any) -> str:
    """Return the HTML of a dataclass.

    Examples
    --------
    >>> @dataclasses.dataclass
    ... class Found:
    ...     ok: bool
    ...     names: tuple[str, ...]
    >>> html = fields_html(Found(False, ("<b>",) * 20000))
    >>> [text in html for text in ("<th>ok</th>", "&lt;b&gt;", "<b>", "19,800 more")]
    [True, True, False, True]
    >>> "<th>names</th>" in fields_html(Found(True, ("a", "b")))  # two texts are one line
    True
    >>> @dataclasses.dataclass
    ... class Report:
    ...     found: tuple[Found, ...]
    >>> "<thead><tr><th>ok</th><th>names</th></tr></thead>" in fields_html(Report((Found(False, ()),)))
    True
    """
    facts, sections = [], []
    for field in dataclasses.fields(value):
        held = getattr(value, field.name)
        if isinstance(held, (tuple, list)) and (len(held) > 2 or any(map(dataclasses.is_dataclass, held))):
            sections.append(_section(field.name, held))
        else:
            facts.append((field.name, _text(held)))
    return summary_html(Summary(type(value).__name__, facts, sections, len(sections)))


def _section(name: str, items: tuple[Any, ...] | list[Any]) -> Section:
    head, tail = ([_row(items[place]) for place in part] for part in places(len(items), HTML_ROWS))
    first = items[0]
    known = dataclasses.is_dataclass(first)
    columns = [field.name for field in dataclasses.fields(first)] if known else ()
    return Section(name, None, columns, len(items), head, tail)


def _row(item: Any) -> Row:
    if dataclasses.is_dataclass(item):
        return [_text(getattr(item, field.name)) for field in dataclasses.fields(item)]
    return [_text(part) for part in item] if isinstance(item, tuple) else [_text(item)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else value_text(value, _ROOM)
