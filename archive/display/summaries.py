"""Summaries: what something is, and the beginning and end of each table in it; as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from archive.display.texts import counted, lined_up, middle_elided, value_text

__all__ = ["ARRAY_COLUMNS", "VALUE_COLUMNS", "Section", "Summary", "places", "summary_text"]

TEXT_BYTES = 3_500
"""Longest text of a summary but for its last line, in UTF-8."""
TEXT_ROWS = 8
"""Rows of a table that a text shows."""
ARRAY_COLUMNS = ("name", "dtype", "shape", "size")
VALUE_COLUMNS = ("name", "value")

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class Section:
    """One table of a summary. Its texts may come from anybody: they are made safe when they are shown."""

    kind: str
    """What it is, by our own words: ``arrays``."""
    name: object
    """Its name, a str; None where it needs none."""
    columns: Row
    """Headings."""
    count: int
    """Rows that there are."""
    head: Sequence[Row] = ()
    """The first rows."""
    tail: Sequence[Row] = ()
    """The last rows, which are not in ``head``."""
    problem: str = ""
    """Why there are no rows to show; empty where there are."""

    @property
    def missing(self) -> int:
        """Rows between head and tail."""
        return self.count - len(self.head) - len(self.tail)


@dataclass(frozen=True, slots=True)
class Summary:
    """What is shown of something."""

    title: str
    """The first line."""
    facts: Sequence[tuple[str, str]] = ()
    """Our word for a fact, or none, and the fact."""
    sections: Iterable[Section] = field(default=())
    """Tables, each made when its turn comes."""
    count: int = 0
    """Sections that there are."""


def places(count: int, rows: int) -> tuple[range, range]:
    """Return which of so many rows are shown at the beginning and at the end.

    Examples
    --------
    >>> places(8, 8), places(20000, 8)
    ((range(0, 8), range(8, 8)), (range(0, 6), range(19998, 20000)))
    """
    if count <= rows:
        return range(count), range(count, count)
    tail = rows // 4
    return range(rows - tail), range(count - tail, count)


def summary_text(summary: Summary) -> str:
    """Return a summary as lines: less than 4,000 bytes, whatever is in it.

    Examples
    --------
    >>> rows = [("w", "float32", "(2, 3)", "24 bytes"), ("bias", "int8", "(2,)", "2 bytes")]
    >>> print(summary_text(Summary("Model", (), [Section("arrays", "fit", ARRAY_COLUMNS, 20000, rows)], 1)))
    Model
    arrays 'fit': 20,000
        w     float32  (2, 3)  24 bytes
        bias  int8     (2,)    2 bytes
        ... 19,998 more
    """
    lines = _Lines()
    lines.add(middle_elided(summary.title, 400))
    for label, fact in summary.facts:
        lines.add(f"{label}{': ' * bool(label)}{middle_elided(fact, 200)}")
    shown = 0
    for section in summary.sections:
        whole = _section_lines(section)
        if not lines.add(*whole) and not (shown == 0 and lines.begin(whole)):
            break
        shown += 1
    if shown < summary.count:
        lines.end(f"... {counted(summary.count - shown, 'more record')}" if shown else "...")
    return "\n".join(lines.lines)


def _section_lines(section: Section) -> list[str]:
    name = "" if section.name is None else f" {value_text(section.name)}"
    heading = [f"{section.kind}{name}: {section.count:,}"] if section.kind or name else []
    rows = [[middle_elided(cell) for cell in row] for row in (*section.head, *section.tail)]
    lines = lined_up(rows, "    ")
    if section.missing and not section.problem:
        lines.insert(len(section.head), f"    ... {section.missing:,} more")
    return heading + lines + [f"    {middle_elided(section.problem, 200)}"] * bool(section.problem)


class _Lines:
    """Lines of text that are not too long together."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._left = TEXT_BYTES

    def add(self, *lines: str) -> bool:
        """Add lines, all or none of them, and return whether there was room."""
        nbytes = sum(len(line.encode()) + 1 for line in lines)
        if nbytes > self._left:
            return False
        self.lines += lines
        self._left -= nbytes
        return True

    def begin(self, lines: list[str]) -> bool:
        """Add as many of these lines as there is room for, and return whether it was any."""
        return [self.add(line) for line in lines].count(True) > 0

    def end(self, line: str) -> None:
        """Add the last line, for which there is room in any case."""
        self.lines.append(line)
