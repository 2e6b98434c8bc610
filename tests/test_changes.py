"""How the project is changed: fragments of the changelog, hooks, and what goes into an sdist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import archive

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
TOOL: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
TYPES = [kind["directory"] for kind in TOOL["towncrier"]["type"]]
ALWAYS = {"pyproject.toml", "README.md", "LICENSE", ".gitignore"}
"""What hatchling puts into every sdist."""


def faults(name: str, text: str) -> list[str]:
    """Return what is wrong with a fragment of the changelog."""
    found = []
    if not re.fullmatch(rf"(\+[a-z0-9-]+|\d+)\.({'|'.join(TYPES)})\.md", name):
        found.append("the name is not +NAME.TYPE.md")
    if not text.strip() or text.startswith(("-", "*", "#", " ", "\n")) or not text.endswith(".\n"):
        found.append("the text is not a sentence")
    return found


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("+good-one.fixed.md", "One sentence.\n", 0),
        ("12.added.md", "A sentence\nin two lines.\n", 0),
        ("good.fixed.md", "Towncrier takes good for an issue.\n", 1),
        ("+good.mended.md", "No such type.\n", 1),
        ("+good.fixed.txt", "No such ending.\n", 1),
        ("+good.fixed.md", "- a dash\n", 1),
        ("+good.fixed.md", "\n", 1),
        ("fixed.md", "no full stop\n", 2),
    ],
)
def test_faults_of_fragments_are_found(name: str, text: str, count: int) -> None:
    assert len(faults(name, text)) == count


def test_fragments_are_well_formed() -> None:
    fragments = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "changes").iterdir()}
    assert fragments.pop("README.md")
    assert {name: faults(name, text) for name, text in fragments.items() if faults(name, text)} == {}


def test_the_changelog_has_a_place_for_fragments() -> None:
    changelog = (ROOT / TOOL["towncrier"]["filename"]).read_text(encoding="utf-8")
    assert changelog.count(TOOL["towncrier"]["start_string"]) == 1
    assert changelog.index(TOOL["towncrier"]["start_string"]) < changelog.index("\n## ")


def test_hooks_are_the_commands_of_poe_check() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    checks = [task["cmd"] for task in TOOL["poe"]["tasks"]["check"]["sequence"] if "cmd" in task]
    assert re.findall(r"^ +entry: (.*)$", hooks, re.MULTILINE) == checks


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Make a repository of one commit, which has the release script and the tag v1.0.0."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "release", tmp_path / ".ci")
    identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "All"], ["tag", "v1.0.0"]):
        subprocess.run(["git", *identity, *command], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["1.1"], "1.1 is not of the form"),
        (["v1.1.0"], "v1.1.0 is not of the form"),
        (["1.1.0", "--dry"], "unknown option --dry"),
        (["1.0.0"], "the tag v1.0.0 exists"),
        (["1.1.0"], "changes that are not committed"),
    ],
)
def test_a_release_is_refused(checkout: Path, arguments: list[str], reason: str) -> None:
    if "committed" in reason:
        (checkout / "new.py").touch()
    done = subprocess.run(
        ["bash", ".ci/release", *arguments], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("no release: ")
    assert reason in done.stderr


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "SECURITY.md", "docs/policy.md", "docs/resume.md"])
def test_pages_name_what_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`poe ([a-z]+)\b(?! alone)", text)
    assert set(named) <= set(TOOL["poe"]["tasks"])
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert link.startswith("https://") or (ROOT / page).parent.joinpath(link).exists(), link
    for path in re.findall(r"`((?:archive|benchmarks|changes|docs|spec|tests|\.ci)/[\w./-]*)", text):
        root = Path(archive.__file__).parents[1] if path.startswith("archive/") else ROOT
        assert (root / path).exists(), path


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_an_sdist_has_all_that_git_tracks() -> None:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {path.split("/")[0] for path in done.stdout.split("\0") if path}
    listed = {path.removeprefix("/") for path in TOOL["hatch"]["build"]["targets"]["sdist"]["include"]}
    assert sorted(tracked - listed - ALWAYS) == []
