"""Summaries as HTML for notebooks: no script, nothing from outside, no id; text of others is text alone."""

from __future__ import annotations

from html import escape

from archive.display.summaries import Row, Section, Summary
from archive.display.texts import counted, middle_elided

__all__ = ["HTML_ROWS", "summary_html"]

HTML_BYTES = 90_000
"""Longest HTML of a summary but for what closes it."""
HTML_ROWS = 200
"""Rows of all tables together."""
_OPEN_ROWS = 20
"""A table with more rows is folded."""
_NAME = 160
"""Characters of a text that are shown."""

# JupyterLab and VS Code name the colours of their theme; elsewhere those of the page's own text are taken, so
# that dark text never stands on a dark page, whatever the browser prefers
_STYLE = """<style>
.fedarchive-summary{color:var(--jp-content-font-color1,var(--vscode-editor-foreground,inherit));
--fa-line:var(--jp-border-color2,var(--vscode-editorWidget-border,
color-mix(in srgb,currentColor 25%,transparent)));
font-size:13px;line-height:1.5;overflow-x:auto}
.fedarchive-summary header{font-weight:600;overflow-wrap:anywhere;border-bottom:1px solid var(--fa-line)}
.fedarchive-summary summary{cursor:pointer}
.fedarchive-summary small,.fedarchive-summary th{font-weight:normal;
color:var(--jp-content-font-color2,var(--vscode-descriptionForeground,
color-mix(in srgb,currentColor 70%,transparent)))}
.fedarchive-summary table{border-collapse:collapse;margin:2px 0 6px 1.5em;color:inherit;
table-layout:auto;width:max-content}
.fedarchive-summary th,.fedarchive-summary td{text-align:left;padding:0 1.2em 0 0;max-width:60em;
white-space:normal;overflow-wrap:anywhere;vertical-align:top;background:none}
.fedarchive-summary td{font-family:var(--jp-code-font-family,ui-monospace,monospace)}
</style>"""


def summary_html(summary: Summary) -> str:
    r"""Return a summary as HTML: less than 100,000 bytes, whatever is in it.

    Examples
    --------
    >>> from archive.display.summaries import VALUE_COLUMNS
    >>> rows = [("<script>\x1b", "0.5")]
    >>> html = summary_html(Summary("Metrics", (), [Section("metrics", "fit", VALUE_COLUMNS, 1, rows)], 1))
    >>> "<td><bdi>&lt;script&gt;\\x1b</bdi></td><td><bdi>0.5</bdi></td>" in html, "<script" in html
    (True, False)
    """
    page = _Page()
    page.add(f'<div class="fedarchive-summary">{_STYLE}<header>{_text(summary.title, 400)}</header>')
    if summary.facts:
        cells = "".join(f"<tr><th>{_text(label)}</th>{_cells([fact])}</tr>" for label, fact in summary.facts)
        page.add(f"<table>{cells}</table>")
    shown = 0
    for section in summary.sections:
        if not page.add_section(section, alone=summary.count == 1):
            break
        shown += 1
    rest = summary.count - shown
    more = f"<div><small>... {counted(rest, 'more record')}</small></div>" if rest > 0 else ""
    return "".join(page.pieces) + more + "</div>"


class _Page:
    """Pieces of HTML that are not too long together."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._left = HTML_BYTES
        self._rows = HTML_ROWS

    def add(self, piece: str) -> bool:
        """Add a piece, which closes what it opens, where there is room; return whether there was."""
        nbytes = len(piece.encode())
        if nbytes > self._left:
            return False
        self.pieces.append(piece)
        self._left -= nbytes
        return True

    def add_section(self, section: Section, *, alone: bool) -> bool:
        """Add a table, as many of its rows as there is room for; return whether it was begun."""
        if self._rows <= 0 or self._left < 2_000:
            return False
        opened = " open" * (alone or section.count <= _OPEN_ROWS)
        name = "" if section.name is None else f" <bdi>{_text(str(section.name))}</bdi>"
        heading = "".join(f"<th>{_text(column)}</th>" for column in section.columns)
        self.add(
            f"<details{opened}><summary>{_text(section.kind)}{name} <small>({section.count:,})</small>"
            f"</summary><table><thead><tr>{heading}</tr></thead><tbody>"
        )
        if section.problem:
            self.add(f"<tr>{_cells([section.problem])}</tr>")
        else:
            self._add_rows(section)
        self.pieces.append("</tbody></table></details>")
        return True

    def _add_rows(self, section: Section) -> None:
        tail = section.tail[-self._rows // 4 :] if len(section.head) >= self._rows else section.tail
        head = section.head[: max(self._rows - len(tail), 1)]
        shown = [row for row in head if self.add(f"<tr>{_cells(row)}</tr>")]
        ending = [f"<tr>{_cells(row)}</tr>" for row in tail]
        fits = sum(len(piece.encode()) for piece in ending) < self._left
        missing = section.count - len(shown) - (len(ending) if fits else 0)
        if missing > 0:
            wide = len(section.columns)
            self.pieces.append(f'<tr><td colspan="{wide}"><small>... {missing:,} more</small></td></tr>')
        for piece in ending if fits else ():
            self.add(piece)
        self._rows -= len(shown) + len(ending)


def _cells(row: Row) -> str:
    return "".join(f"<td><bdi>{_text(cell)}</bdi></td>" for cell in row)


def _text(text: str, length: int = _NAME) -> str:
    """Return text of others as text of HTML, its invisible characters escaped."""
    return escape(middle_elided(text, length))
