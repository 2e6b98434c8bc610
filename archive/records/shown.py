"""Shown: the base of what shows itself, in a terminal and in a notebook."""

from __future__ import annotations

__all__ = ["Shown"]


class Shown:
    """Has a text as Python spells it, a summary where that is long, and HTML for notebooks.

    Less than 4,000 and 100,000 bytes, of 20,000 arrays too; no element is read, and nothing is opened.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the text."""
        from archive.records.showing import text_of  # 2 ms, for people alone

        return text_of(self)

    def _repr_html_(self) -> str:
        """Return the HTML, which Jupyter asks for."""
        from archive.records.showing import html_of

        return html_of(self)
