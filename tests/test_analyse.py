"""docs/analyse.md holds: each block prints what stands below it, and a task is short."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import pytest

from archive.cli import main
from archive.errors import NonFiniteWarning

PAGE = (Path(__file__).parents[1] / "docs/analyse.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|pycon|console)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def require_output(said: str, wanted: str, command: str) -> None:
    """Compare what was printed: of another folder, and at another time."""
    said = said.replace(str(Path.cwd()), "/data")
    said, wanted = (re.sub(r"\d{4}-\d\d-\d\dT[\d:]{8}", "MOMENT", text) for text in (said, wanted))
    assert doctest.OutputChecker().check_output(wanted, said, FLAGS), f"{command}\n{said}"


def printed(call: Any, *arguments: Any) -> str:
    """Return what a call printed, stderr first."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        call(*arguments)
    return err.getvalue() + out.getvalue()


def run_examples(block: str, names: dict[str, Any]) -> None:
    for example in doctest.DocTestParser().get_examples(block):
        code = compile(example.source, "docs/analyse.md", "single")
        require_output(printed(exec, code, names), example.want, example.source)


def run_commands(block: str) -> None:
    for session in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, wanted = session.partition("\n")
        program, *words = shlex.split(line)
        assert program == "fedarchive"
        require_output(printed(main, words), wanted, line)


@pytest.mark.slow
def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with pytest.warns(NonFiniteWarning, match="round 13, client 'clinic-04'"):
        exec(next(block for kind, block in BLOCKS if kind == "python"), names)
    assert len(list(tmp_path.rglob("*.h5"))) == 421 - 1, "one is gone"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the page goes on without two files
        for kind, block in BLOCKS:
            if kind == "pycon":
                run_examples(block, names)
            elif kind == "console":
                run_commands(block)


def test_every_task_is_two_lines_or_a_command() -> None:
    kinds = [kind for kind, _ in BLOCKS]
    assert kinds.count("python") == 1, "the run that is analysed"
    assert kinds.count("pycon") >= 8
    assert kinds.count("console") >= 7
    for kind, block in BLOCKS:
        if kind == "pycon":
            assert block.count(">>> ") <= 3, block
