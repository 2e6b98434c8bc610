"""The page of docs/ with the table, and what a test reads back from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from tests.hdf5tools.comparing import Difference, Outcome, category
from tests.hdf5tools.running import Cell

__all__ = ["cells_of", "page"]

BEGIN, END = "<!-- written by poe hdf5-tools -->", "<!-- end of what poe hdf5-tools wrote -->"


def page(
    before: str, table: Mapping[str, Mapping[str, Cell]], versions: Mapping[str, Mapping[str, str]], day: date
) -> str:
    """Return a page with another table: cells by kind and tool, versions by tool."""
    tools = list(versions)
    lines = [BEGIN, f"Written on {day.isoformat()}: {len(table)} kinds of archives, {len(tools)} tools."]
    lines += ["", "## Versions", "", "| tool | version | libhdf5 |", "|---|---|---|"]
    lines += [
        f"| {tool} | {plain(said['tool'])} | {plain(said['hdf5'])} |" for tool, said in versions.items()
    ]
    lines += ["", "## Table", "", f"| archive | {' | '.join(tools)} |", "|---" * (len(tools) + 1) + "|"]
    for kind, cells in table.items():
        lines.append(f"| {kind} | {' | '.join(cells[tool].verdict for tool in tools)} |")
    lines += ["", "## Theirs", "", *reasons(table, tools), END]
    head, tail = before.split(BEGIN)[0], before.split(END)[-1]
    return head + "\n".join(lines) + tail


def reasons(table: Mapping[str, Mapping[str, Cell]], tools: Sequence[str]) -> list[str]:
    """Return a line for each tool and way to fail, with the kinds that fail so."""
    lines = ["| tool | archives | what happens in the first of them | control |", "|---|---|---|---|"]
    for tool in tools:
        found: dict[Any, list[tuple[str, Cell]]] = {}
        for kind, cells in table.items():
            if cells[tool].verdict == "theirs":
                ways = tuple(examples(cells[tool].ours))
                found.setdefault((ways, cells[tool].control), []).append((kind, cells[tool]))
        for (_, control), failed in found.items():
            kinds = "; ".join(kind for kind, _ in failed)
            lines.append(f"| {tool} | {kinds} | {described(failed[0][1].ours)} | {control} |")
    return lines


def examples(ours: Outcome) -> dict[Any, Difference]:
    """Return the first difference of each sort: of attributes or elements, missing, an error, or wrong."""
    found: dict[Any, Difference] = {}
    for difference in ours.differences:
        said = category(difference.said)
        is_value = said not in ("nothing", "empty") and not said.endswith(("Error", "Exception"))
        sort = f"wrong {difference.saved.partition(' ')[0]}" if is_value else said
        found.setdefault(("@" in difference.place, sort), difference)
    return found or {category(ours.failure): Difference("", "", ours.failure)}


def described(ours: Outcome) -> str:
    """Return one line on a failure, for a cell of a table."""
    if ours.failure:
        return code(ours.failure)
    firsts = [
        f"{code(each.place)} is {code(each.saved)}, said is {code(each.said)}"
        for each in examples(ours).values()
    ]
    more = len(ours.differences) - len(firsts)
    return "; ".join(firsts) + (f"; {more} more" if more else "")


def code(text: str) -> str:
    return f"`{plain(text)[:110]}`"


def plain(text: str) -> str:
    """Return text that stays within a cell and a span of code, whatever a file or tool says."""
    spaced = " ".join(text.split())
    shown = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in spaced)
    return shown.replace("`", "'").replace("|", "/")


def cells_of(text: str) -> dict[str, dict[str, str]]:
    """Return the table of a page: verdicts by kind and tool."""
    lines = text.split("\n## Table\n\n")[1].split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}
