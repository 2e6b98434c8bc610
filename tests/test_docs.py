"""The pages of docs/ for users: what they quote from the log is what the code says; what they name exists."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import archive
from archive.cli.dispatch import _COMMANDS, _parser

ROOT = Path(__file__).parents[1]
PACKAGE = Path(archive.__file__).parent
TROUBLE = ROOT / "docs/troubleshooting.md"
PAGES = [
    *("README.md", "examples/flower/README.md", "examples/fl4health/README.md"),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")),
]


def texts() -> Iterator[str]:
    """Yield all texts of the package; what an f-string inserts is a NUL."""
    for module in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def quoted() -> list[str]:
    """Return what the page says that the log says, except what Flower says."""
    rows = re.findall(r"^\| (`.*?) \| ", TROUBLE.read_text(encoding="utf-8"), re.MULTILINE)
    cells = [cell for row in rows if "(Flower's)" not in row for cell in re.findall(r"`([^`]+)`", row)]
    return [part for cell in cells for part in re.split(r"\s*\.\.\.\s*", cell) if part]


def test_quoted_texts_are_those_of_the_code() -> None:
    known = list(texts())
    found = quoted()
    assert len(found) > 20
    assert [part for part in found if not any(part in text for text in known)] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_pages_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    code = re.findall(r"^```.*?^```$|`[^`\n]+`", text, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"^[`$ ]*fedarchive ([a-z]+)", "\n".join(code), re.MULTILINE)) <= set(_COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_names_of_pages_exist(page: str) -> None:
    blocks = re.findall(
        r"^```(?:py|python)?\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    imported = re.findall(r"^from (archive[\w.]*) import (.+)$", "\n".join(blocks), re.MULTILINE)
    for module, names in imported:
        for name in names.split(", "):
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_pages_have_these_arguments(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    commands = [found for found in re.findall(r"`fedarchive ([^`|]+)`", text) if "..." not in found]
    for command in commands:
        words = shlex.split(command.replace("ROUND", "3"))
        if len(words) == 1 or words[0] == "COMMAND":
            continue  # the command itself is meant
        assert callable(_parser(words).parse_args(words).run), command


def test_pages_state_how_a_resume_is_tried() -> None:
    """With a setting that the example has, and enough rounds; the process is the one that runs the rounds."""
    config = (ROOT / "examples/flower/pyproject.toml").read_text(encoding="utf-8")
    for page in ("docs/resume.md", "examples/flower/README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        settings = re.findall(r"--run-config ([\w-]+)=(\d+)", text)
        assert settings, page
        for name, value in settings:
            assert f"\n{name} = " in config
            assert int(value) >= 100
        assert "pkill -9 -f flwr-simulation" in text
        assert "flwr-serverapp" in text


def test_a_named_run_is_opened_as_the_page_does(tmp_path: Path) -> None:
    text = (ROOT / "docs/resume.md").read_text(encoding="utf-8")
    (call,) = re.findall(r"`(CheckpointStore\(\"/data/runs\", [^`]+)`", text)
    for name in ("lr-0.1", "lr-0.2"):
        archive.CheckpointStore(tmp_path, name).save({}, 1)
    parsed = ast.parse(call, mode="eval").body
    assert isinstance(parsed, ast.Call)
    assert archive.CheckpointStore(tmp_path, ast.literal_eval(parsed.args[1])).rounds() == [1]


def test_pages_state_remedies_of_deterministic_runs_and_of_installations() -> None:
    resume, trouble = (
        (ROOT / page).read_text(encoding="utf-8") for page in ("docs/resume.md", "docs/troubleshooting.md")
    )
    for text in (resume, trouble):
        assert "min_available_nodes" in text
        assert re.search(r"fedarchive runs rewind \S+ \S+ --yes", text), "nobody can be asked in a job"
    assert "pip install 'flwr[simulation]'" in resume
    assert re.search(r"`Exit Code: 608`.*`no versions of fedarchive`.*=1`", trouble)
    assert re.search(r"\| `persist_state` was forgotten on a run that had states", trouble)
