"""FL4Health's own servers, clients and strategies, under Python 3.10 and numpy 1.26, which it needs.

pytest runs the modules of ``live`` under the interpreter of an environment that FEDARCHIVE_FL4HEALTH
names, or that pip makes where a Python 3.10 is there; torch comes with gigabytes of libraries. To make
one that is kept::

    python -m tests.fl4health.test_live /tmp/fl4health
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.environments import ROOT, run_pytest

VARIABLE = "FEDARCHIVE_FL4HEALTH"
RELEASE = "fl4health==0.4.2"
MODULES = sorted(Path(__file__).parent.glob("live/test_*.py"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get(VARIABLE)
    folder = Path(given) if given else tmp_path_factory.mktemp("fl4health")
    if not given:
        make(folder)
    return folder / "bin" / "python"


def make(folder: Path) -> None:
    """Make an environment of FL4Health and fedarchive together; skip where that cannot be."""
    interpreter = sys.executable if sys.version_info[:2] == (3, 10) else shutil.which("python3.10")
    if interpreter is None:
        pytest.skip(f"no python3.10, which FL4Health needs, and {VARIABLE} names no environment")
    needed = [RELEASE, str(ROOT), "pytest>=9.0", "pytest-timeout>=2.4", "hypothesis"]
    try:
        subprocess.run([interpreter, "-m", "venv", folder], capture_output=True, text=True, check=True)
        pip: list[str | Path] = [
            folder / "bin" / "python",
            "-m",
            "pip",
            "install",
            "-q",
            "--no-cache-dir",
            *needed,
        ]
        subprocess.run(pip, capture_output=True, text=True, timeout=3000, check=True)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no environment of {RELEASE}: {error.stderr.strip()[-300:]}")


@pytest.mark.parametrize("module", [pytest.param(path, id=path.stem) for path in MODULES])
def test_live(python: Path, module: Path) -> None:
    done = run_pytest(python, module)
    assert done.returncode == 0, done.stdout[-10_000:]


if __name__ == "__main__":
    make(Path(sys.argv[1]))
