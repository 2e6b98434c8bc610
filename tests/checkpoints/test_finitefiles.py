"""A store warns of NaN and infinities, or saves nothing; whatever way the arrays take into the store."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import MissingError, NonFiniteError, NonFiniteWarning

Store = archive.CheckpointStore
GOOD = {"w": np.ones(3)}


def bad() -> dict[str, Any]:
    return {"w": np.array([1, np.nan, np.inf, -np.inf]), "b": np.ones(2), "c": np.array([np.nan], "f4")}


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_client_and_a_round_are_warned_of(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.warns(NonFiniteWarning) as warned:
        store.save(bad(), 3, client="Berlin")
    (one,) = warned
    assert one.filename == __file__
    assert str(one.message) == (
        "round 3, client 'Berlin' was saved with NaN or infinities in 2 arrays: "
        f"model/w (1 of 4 NaN, 2 infinite), model/c (1 of 1 NaN) ({tmp_path}/rounds/00000003/Berlin.h5)"
    )
    with pytest.warns(NonFiniteWarning, match=r"round 3 was saved with .* in 1 array: model/w"):
        store.save({"w": np.array([np.inf])}, 3)
    assert store.clients(3) == ["Berlin"]
    assert store.verify(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.save(GOOD, 4, metrics={"loss": float("nan")})


def test_a_warning_that_is_an_error_comes_last(tmp_path: Path) -> None:
    """The round knows its client, although the program makes errors of warnings."""
    store = Store(tmp_path, keep_last=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.save(GOOD, 1)
        with pytest.raises(NonFiniteWarning):
            store.save(bad(), 2, client="a")
        with pytest.raises(NonFiniteWarning):
            store.save(bad(), 2)
    assert store.rounds() == [2]
    assert store.clients(2) == ["a"]


@pytest.mark.parametrize("client", [None, "Berlin"])
def test_nothing_is_saved(tmp_path: Path, client: str | None) -> None:
    store = Store(tmp_path, check="error")
    store.save(GOOD, 1, client="Oslo")
    before = files(tmp_path)
    with pytest.raises(NonFiniteError, match=r"1 of 4 NaN, 2 infinite.*nothing was saved") as caught:
        store.save(bad(), 1, client=client)
    assert caught.value.key == "model/w"
    assert caught.value.path == str(tmp_path / f"rounds/00000001{'/Berlin' if client else ''}.h5")
    assert files(tmp_path) == before
    store.save(GOOD, 1, client=client)
    if client:
        store.save(GOOD, 1)
    assert store.clients(1) == sorted(filter(None, ["Oslo", client]))


def test_nobody_looks(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Store(tmp_path, check="off").save(bad(), 1)
    assert np.isnan(Store(tmp_path).open(1)["c"].numpy()).all()
    with pytest.raises(ValueError, match="check must be one of 'warn', 'error', 'off', not 'raise'"):
        Store(tmp_path, check="raise")  # type: ignore[arg-type]


def test_arrays_that_come_one_by_one(tmp_path: Path) -> None:
    def layers() -> Iterator[tuple[str, Any]]:
        yield from bad().items()

    with pytest.warns(NonFiniteWarning, match=r"model/w .*model/c"):
        Store(tmp_path).save(layers(), 1)
    with pytest.raises(NonFiniteError):
        Store(tmp_path, check="error").save(layers(), 2)
    assert files(tmp_path) == ["rounds/00000001.h5"]


def test_of_a_large_model_every_byte_is_looked_at(tmp_path: Path) -> None:
    """Written by two threads."""
    layers = {f"w{number}": np.ones((1 << 20) + 13, "f4") for number in range(4)}
    layers["w2"][-1] = np.nan
    with pytest.warns(NonFiniteWarning, match=r"in 1 array: model/w2 \(1 of 1048589 NaN\)"):
        Store(tmp_path).save(layers, 1)


def test_in_the_background(tmp_path: Path) -> None:
    with pytest.warns(NonFiniteWarning, match="round 1 was saved"), Store(tmp_path, background=True) as store:
        assert store.save(bad(), 1) is None
    store = Store(tmp_path, background=True, check="error")
    store.save(bad(), 2)
    with pytest.raises(NonFiniteError):
        store.rounds()
    assert store.rounds() == [1]
    store.save(bad(), 2)
    with pytest.raises(NonFiniteError):
        store.close()


def test_a_warning_that_is_an_error_hides_no_other(tmp_path: Path) -> None:
    def train() -> None:
        with Store(tmp_path, background=True) as store:
            store.save(bad(), 1)
            raise RuntimeError("the accelerator is gone")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeError, match="the accelerator is gone") as caught:
            train()
    if hasattr(caught.value, "__notes__"):
        assert "round 1 was saved with NaN" in caught.value.__notes__[0]


SCRIPT = """
import archive, numpy as np, sys
store = archive.CheckpointStore(sys.argv[1], background=True)
store.save({"w": np.array([np.nan])}, 1)
"""


@pytest.mark.slow
def test_a_program_that_ends_is_warned(tmp_path: Path) -> None:
    """Without close, the interpreter waits for the save."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=True, env=dict(os.environ),
    )  # fmt: skip
    assert "NonFiniteWarning: round 1 was saved with NaN" in done.stderr


def test_a_context_is_not_looked_at(tmp_path: Path) -> None:
    """The state of a client is its own."""
    state = archive.RecordDict({"m": archive.ArrayRecord([np.array([np.nan])])})
    Store(tmp_path, check="error").save_context("n", archive.Context(1, 2, {}, state, {}))
    found: Any = Store(tmp_path).context("n").state["m"]
    assert np.isnan(found["0"].numpy()).all()
    with pytest.raises(MissingError):
        Store(tmp_path).open("latest")


def test_many_arrays_are_counted(tmp_path: Path) -> None:
    with pytest.warns(NonFiniteWarning, match=r"in 9 arrays: .*model/w2 \(1 of 1 NaN\) and 6 more \("):
        Store(tmp_path).save({f"w{number}": np.array([np.nan]) for number in range(9)}, 1)
