"""The environments are those that pyproject.toml names; ruff reads the project alone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def versions(lines: list[str], operator: str) -> dict[str, Version]:
    """Return the one version that each requirement names."""
    found: dict[str, Version] = {}
    for line in lines:
        requirement = Requirement(line)
        ((given, version),) = ((one.operator, one.version) for one in requirement.specifier)
        assert given == operator, line
        found[canonicalize_name(requirement.name)] = Version(version)
    return found


def test_lowest_versions_are_the_bounds() -> None:
    lines = (ROOT / ".ci" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = versions([line for line in lines if not line.startswith("#")], "==")
    assert pinned == versions([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["progress"]], ">=")


def test_extras_name_extras_that_exist() -> None:
    extras = PROJECT["optional-dependencies"]
    lines = [Requirement(line) for extra in extras.values() for line in extra]
    own = {name for line in lines if canonicalize_name(line.name) == PROJECT["name"] for name in line.extras}
    # pip installs nothing, not even "pip install .", if one is missing
    assert {"quick", "torch"} <= own <= set(extras)


def test_ci_runs_them_last() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert ci[-1] == ".ci/lowest"
    lowest = (ROOT / ".ci" / "lowest").read_text(encoding="utf-8")
    assert lowest.endswith('/python" oldest -c .ci/lowest.txt\n')
    python = (ROOT / ".ci" / "python").read_text(encoding="utf-8")
    assert "\npip install -e '.[quick]' \"$@\"\n" in python
    assert python.endswith("\npoe test\n")


def test_every_listed_python_is_supported() -> None:
    names = "\n".join(PROJECT["classifiers"])
    minors = [int(minor) for minor in re.findall(r":: 3\.(\d+)$", names, re.MULTILINE)]
    assert PROJECT["requires-python"] == f">=3.{minors[0]}"
    assert minors == list(range(minors[0], minors[-1] + 1))


@pytest.mark.skipif(shutil.which("ruff") is None, reason="ruff is not installed")
def test_ruff_reads_no_virtual_environment(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path in (
        "archive/module.py",
        "myenv/bin/program.py",
        ".venv-low/bin/program.py",
        "env/lib/python3.10/module.py",
        "myenv/pyproject.toml",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    command = ["ruff", "check", "--no-cache", "--show-files"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    read = {Path(line).relative_to(tmp_path.resolve()).as_posix() for line in done.stdout.split()}
    assert read == {"archive/module.py", "pyproject.toml"}
