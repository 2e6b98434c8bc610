"""The page: one file with its policy, style, script and data; nothing in it is fetched or evaluated.

The policy lets the browser run the one script and the one style of this file, known by their SHA-256, and
nothing else: no request, no form, no frame, no ``eval``, no markup made of text (trusted types).
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any

from archive.display.texts import counted
from archive.report.pagedata import as_json

__all__ = ["page_html"]

_SCRIPTS = ("base.js", "charts.js", "heatmap.js", "arrays.js", "sections.js")
ROWS = 200
"""Arrays that are listed where there is no script."""


def page_html(data: dict[str, Any]) -> str:
    """Return the page of some data.

    Examples
    --------
    >>> data = {"title": "<b>", "made": "", "runs": [], "metrics": [], "differences": []}
    >>> "<title>&lt;b&gt;</title>" in page_html(data), "<b>" in page_html(data)
    (True, False)
    """
    style, script = _asset("page.css"), "".join(map(_asset, _SCRIPTS))
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n',
            f'<title>{escape(data["title"])}</title>\n<link rel="icon" href="data:,">\n',
            f"<style>{style}</style>\n</head>\n<body>\n<noscript>{_summary(data)}</noscript>\n",
            f'<script type="application/json" id="data">{as_json(data)}</script>\n',
            f"<script>{script}</script>\n</body>\n</html>\n",
        ]
    )


@cache
def _asset(name: str) -> str:
    path = importlib.resources.files("archive.report") / "assets" / name
    return path.read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _summary(data: dict[str, Any]) -> str:
    """Return what is shown without a script: facts, findings, and tables of metrics and arrays."""
    parts = [f"<main><h1>{escape(data['title'])}</h1><p>Charts need JavaScript; this is a summary.</p>"]
    for place, run in enumerate(data["runs"]):
        parts.append(f"<h2>{escape(run['name'])}</h2>")
        parts.append(_table(("fact", ""), run["facts"]))
        parts += [f"<p>{escape(text)}</p>" for _, _, text in run["findings"]]
        parts.append(_table(("metric", "newest"), _newest(data, place)))
        arrays = run["arrays"]
        if arrays is None:
            continue
        rows = [
            (
                f"{arrays['records'][arrays['record'][at]]}/{arrays['key'][at]}",
                arrays["dtypes"][arrays["dtype"][at]],
                *(arrays[column][at] for column in ("shape", "norm", "nan")),
            )
            for at in range(min(len(arrays["key"]), ROWS))
        ]
        parts.append(f"<h3>{counted(arrays['total'], 'array')}</h3>")
        parts.append(_table(("array", "dtype", "shape", "norm", "NaN"), rows))
    return "".join(parts) + "</main>"


def _newest(data: dict[str, Any], run: int) -> list[tuple[str, Any]]:
    """Return each metric of a run with its last value."""
    return [
        (chart["name"], next((value for value in reversed(line["model"]) if value is not None), None))
        for chart in data["metrics"]
        for line in chart["lines"]
        if line["run"] == run
    ]


def _table(heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(text)}</th>" for text in heading)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape('' if cell is None else str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
