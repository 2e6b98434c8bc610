"""H: files of ours whose digests hold, and whose JSON takes far more memory than it is long."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.errors import HostileFileError
from archive.format.document import TooLargeError, require_decodable
from archive.tuning import JSON_VARIABLE
from tests.bounds import MAX_EXTRA_BYTES, MAX_SECONDS, bounded
from tests.children import ROOT
from tests.crafting import Crafted
from tests.faults.conftest import environment
from tests.heavy import ACTS, HEAVY, document


@pytest.fixture
def light(tmp_path: Path) -> Path:
    path = tmp_path / "light.h5"
    archive.save({"w": np.arange(4.0)}, path, durable=False)
    return path


@pytest.mark.parametrize("name", ["nested lists", "nested objects", "keys"])
def test_a_heavy_index_is_refused(light: Path, name: str) -> None:
    """Some 4 MB took a second and 300 MB."""
    crafted = Crafted(light)
    crafted.json = document(HEAVY[name](4_000_000))
    path = crafted.write(light.with_name("heavy.h5"))
    for act in ("info", "records", "load"):
        error = bounded(lambda act=act: ACTS[act](path))
        assert isinstance(error, HostileFileError)
        assert error.path == str(path)
        assert error.offset
        assert JSON_VARIABLE in (error.remedy or "")


def test_a_heavy_value_is_refused(tmp_path: Path) -> None:
    """A value that is a dataset of JSON: 1.8 MB took 150 MB before it was found to be no value."""
    path = tmp_path / "heavy.h5"
    archive.save({"w": np.arange(4.0)}, path, configs={"texts": ["\0" * 300_000]}, durable=False)
    crafted = Crafted(path)
    (place,) = (name for name in crafted.owners if name[1] == "texts")
    text = HEAVY["nested lists"](1_800_000).encode()
    nbytes = int(crafted.sections["nbytes"][crafted.row(*place)])
    assert len(text) <= nbytes
    crafted.write_elements(*place, text.ljust(nbytes))
    error = bounded(lambda: archive.load(crafted.write(path)))
    assert isinstance(error, HostileFileError)
    assert error.key == "/".join(place)
    assert JSON_VARIABLE in (error.remedy or "")


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_60_mb_cost_a_second_and_64_mb(light: Path, name: str, figures: Callable[[str], None]) -> None:
    """Every act in a process of its own, on 60 MB and on the longest text that is read."""
    for nbytes in (60_000_000, _longest(name)):
        crafted = Crafted(light)
        crafted.json = document(HEAVY[name](nbytes))
        path = crafted.write(light.with_name("heavy.h5"))
        for act in ACTS:
            command = [sys.executable, "-m", "tests.heavy", act, str(path)]
            done = subprocess.run(
                command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, check=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
            figures(f"{nbytes / 1e6:.1f} MB of {name}, {act}: {found}")
            assert found["seconds"] < MAX_SECONDS
            assert found["bytes"] < MAX_EXTRA_BYTES


def _longest(name: str) -> int:
    """Return about the longest text of a kind that is read."""
    low, high = 1000, 60_000_000
    while high - low > 50_000:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(HEAVY[name](middle)) else (low, middle)
    return low


def _fits(text: str) -> bool:
    try:
        require_decodable(text.encode())
    except TooLargeError:
        return False
    return True
