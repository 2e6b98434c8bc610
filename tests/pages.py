"""The code of a page: found, run in order in one folder, and compared with what the page says is printed.

=========  ==================================================================================================
block      what is done with it
=========  ==================================================================================================
`python`   run; what ``print(...)  # text`` prints is text, line by line (``...`` stands for anything)
`pycon`    run as a doctest
`console`  each ``$ command`` is run, and what stands below it is printed; nothing below: not compared
`py`       shown only, in colours: programs that need Flower's own processes
others     shown only: installations, servers
=========  ==================================================================================================

The folder is called ``/data`` on the pages. What follows ``<!-- not run: REASON -->`` is not run.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive.cli import main

__all__ = ["ROOT", "Block", "blocks", "python_program", "read_page", "run_page"]

ROOT = Path(__file__).parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_FENCE = re.compile(
    r"(?P<comment><!-- not run: [^>]+ -->\n+)?^```(?P<kind>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_SAID = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:]{8}")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    kind: str
    code: str
    line: int
    """The line of the page before the first of the code."""
    runs: bool
    """Whether it is run."""


def read_page(page: str) -> str:
    """Return a page of the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    text = read_page(page)
    for found in _FENCE.finditer(text):
        runs = found["kind"] in ("python", "pycon", "console") and not found["comment"]
        yield Block(found["kind"], found["code"], text[: found.start("code")].count("\n"), runs)


def python_program(page: str) -> str:
    """Return all Python blocks of a page that run as one program; every line keeps its number."""
    lines = [""] * read_page(page).count("\n")
    for block in blocks(page):
        if block.kind == "python" and block.runs:
            code = block.code.splitlines()
            lines[block.line : block.line + len(code)] = code
    return "\n".join(lines)


def run_page(page: str, names: dict[str, Any]) -> None:
    """Run a page in the working folder, with these names defined.

    Raises
    ------
    AssertionError
        Something else was printed.
    """
    for block in blocks(page):
        if block.runs:
            _RUN[block.kind](block, page, names)


def require_output(said: str, wanted: str, place: str) -> None:
    """Compare what was printed: of another folder, and at another time."""
    said, wanted = (_MOMENT.sub("MOMENT", text) for text in (said.replace(str(Path.cwd()), "/data"), wanted))
    assert doctest.OutputChecker().check_output(wanted, said, FLAGS), f"{place}\n{said}"


def printed(call: Any, *arguments: Any) -> str:
    """Return what a call printed, stderr first."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        call(*arguments)
    return err.getvalue() + out.getvalue()


def _run_python(block: Block, page: str, names: dict[str, Any]) -> None:
    code = compile("\n" * block.line + _here(block.code), page, "exec")
    said = printed(exec, code, names)
    wanted = _SAID.findall(block.code)
    if wanted:
        require_output(said, "\n".join(wanted) + "\n", f"{page}:{block.line}")


def _run_examples(block: Block, page: str, names: dict[str, Any]) -> None:
    for example in doctest.DocTestParser().get_examples(block.code):
        code = compile(_here(example.source), page, "single")
        require_output(printed(exec, code, names), example.want, f"{page}: {example.source}")


def _run_commands(block: Block, page: str, names: dict[str, Any]) -> None:
    for session in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
        line, _, wanted = session.partition("\n")
        program, *words = shlex.split(_here(line))
        if program == "fedarchive":
            said = printed(_command, words)
        elif shutil.which(program) is None:
            continue  # of Debian's hdf5-tools
        else:
            said = subprocess.run([program, *words], capture_output=True, text=True, check=True).stdout
        if wanted:
            require_output(said, wanted, f"{page}: {line}")


def _command(words: list[str]) -> None:
    with contextlib.suppress(SystemExit):  # of argparse, after --version
        main(words)


def _here(code: str) -> str:
    return re.sub(r"(?<![\w/])/data(?=/)", str(Path.cwd()), code)


_RUN = {"python": _run_python, "pycon": _run_examples, "console": _run_commands}
