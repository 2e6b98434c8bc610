"""A table as a DataFrame."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.tools.tabulation import Table, texts


def test_a_frame_has_the_columns_in_order_and_their_types() -> None:
    pandas = pytest.importorskip("pandas")
    lists: Any = np.empty(3, object)
    lists[:] = [[1, 2], [3], None]
    table = Table(
        {
            "path": texts(["a", None, "b"]),
            "names": texts(["a", "b", "c"]),
            "round": np.array([1, 2, 3]),
            "big": np.array([1, 2, 2**64 - 1], np.uint64),
            "loss": np.array([0.5, np.nan, 0.25]),
            "kept": np.array([True, False, True]),
            "lists": lists,
        },
        {"fit/loss": "loss"},
    )
    frame = table.to_pandas()
    assert type(frame) is pandas.DataFrame
    assert list(frame) == list(table)
    assert [frame[name].dtype for name in frame] == [column.dtype for column in table.values()]
    for name, column in table.items():
        found = frame[name].to_numpy()
        assert all(
            one is other or one == other or one != one for one, other in zip(found, column, strict=True)
        )
    frame.loc[0, "round"] = 9
    assert table["round"][0] == 1


def test_a_frame_of_archives(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    for number, loss in enumerate([0.5, 0.25]):
        archive.save({}, tmp_path / f"{number}.h5", metrics={"loss": loss}, configs={"name": "a"})
    frame = archive.table(f"{tmp_path}/*.h5").to_pandas()
    assert frame["loss"].mean() == 0.375
    assert frame["name"].tolist() == ["a", "a"]
    assert Table({}).to_pandas().empty


def test_without_pandas_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['pandas'] = None\n"
        "from archive.tools.tabulation import Table\n"
        "try:\n    Table({}).to_pandas()\n"
        "except ImportError as error:\n    print(error.name, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "pandas to_pandas() needs pandas: pip install pandas\n"
