"""One damaged, one missing and one NaN client of many: named, or left out, the result exact all the same."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.cli import main
from archive.errors import ArchiveError, DamagedError, MissingError, SkippedWarning, ValueRangeError
from archive.tools import mean, stats, verify_all


@dataclass
class Round:
    """Clients of one round."""

    paths: list[str]
    damaged: int
    missing: int
    nan: int

    @property
    def bad(self) -> list[int]:
        return sorted((self.damaged, self.missing, self.nan))

    @property
    def unreadable(self) -> list[int]:
        return sorted((self.damaged, self.missing))

    def expected(self) -> list[float]:
        """Return the weighted mean of good clients: products and sums of these integers are exact."""
        good = np.array([number for number in range(len(self.paths)) if number not in self.bad], np.float64)
        weights = good + 1
        first, second = (weights * good).sum(), (weights * (good % 7)).sum()
        return (np.array([first, second]) / weights.sum()).astype("f4").tolist()


@pytest.fixture(scope="module", params=[70, pytest.param(1000, marks=pytest.mark.slow)])
def clients(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Round:
    count, folder = request.param, tmp_path_factory.mktemp("clients")
    paths = [str(folder / f"client-{number:04}.h5") for number in range(count)]
    found = Round(paths, damaged=count // 3, missing=count // 2, nan=count - 4)
    for number, path in enumerate(paths):
        values = np.array([np.nan if number == found.nan else number, number % 7], "f4")
        archive.save({"w": values}, path, metrics={"num-examples": number + 1}, durable=False)
    content = bytearray(Path(paths[found.damaged]).read_bytes())
    content[-20] ^= 1
    Path(paths[found.damaged]).write_bytes(content)
    Path(paths[found.missing]).unlink()
    return found


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor | None]:
    if request.param == 1:
        yield None
    else:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool


def test_a_mean_names_the_first(clients: Round, executor: Executor | None, tmp_path: Path) -> None:
    out = tmp_path / "mean.h5"
    options: dict[str, Any] = {"out": out, "batch": 16, "executor": executor}
    for number, kind in (
        (clients.damaged, DamagedError),
        (clients.missing, MissingError),
        (clients.nan, ValueRangeError),
    ):
        others = [path for at, path in enumerate(clients.paths) if at == number or at not in clients.bad]
        with pytest.raises(kind) as caught:
            mean(others, "num-examples", **options)
        assert isinstance(caught.value, ArchiveError)
        assert caught.value.path == clients.paths[number]
    assert not out.exists()


def test_a_mean_without_them_is_exact(clients: Round, executor: Executor | None, tmp_path: Path) -> None:
    out = tmp_path / "mean.h5"
    for weights in ("num-examples", [number + 1.0 for number in range(len(clients.paths))]):
        report = mean(clients.paths, weights, out=out, batch=16, errors="skip", executor=executor)
        assert report.inputs == len(clients.paths) - 3
        assert [one.position for one in report.skipped] == clients.bad
        assert [one.path for one in report.skipped] == [clients.paths[number] for number in clients.bad]
        kinds = {one.position: type(one.error) for one in report.skipped}
        assert kinds == {
            clients.damaged: DamagedError,
            clients.missing: MissingError,
            clients.nan: ValueRangeError,
        }
        assert archive.load(out).array_records["model"]["w"].numpy().tolist() == clients.expected()


def test_tables_leave_them_out(clients: Round, executor: Executor | None) -> None:
    paths = [clients.paths[number] for number in clients.unreadable]
    good = [number for number in range(len(clients.paths)) if number not in clients.unreadable]
    for function in (archive.table, stats, verify_all):
        with pytest.raises(DamagedError, match=Path(paths[0]).name):
            function(clients.paths, executor=executor)
        with pytest.warns(SkippedWarning, match=f"2 of {len(clients.paths)} archives"):
            found = function(clients.paths, errors="skip", executor=executor)
        assert [path for path, _ in found.failures] == paths
        assert found["path"].tolist() == [clients.paths[number] for number in good]
        column = function(clients.paths, errors="column", executor=executor)
        wrong = [number for number, error in enumerate(column["error"]) if error is not None]
        assert wrong == clients.unreadable
        if function is archive.table:
            assert found["num-examples"].tolist() == [number + 1 for number in good]
            assert column["num-examples"].dtype == np.float64
        elif function is stats:
            assert found["path"][found["nan"] > 0].tolist() == [clients.paths[clients.nan]]
            assert found["max"].tolist() == [max(n if n != clients.nan else 0, n % 7) for n in good]
        else:
            assert found["ok"].all()


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_commands_name_them(
    clients: Round, workers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, paths = tmp_path / "mean.h5", [clients.paths[number] for number in clients.bad]
    averaging = ["mean", str(out), *clients.paths, "--weights", "num-examples", "--workers", workers]
    assert main([*averaging, "--batch", "16"]) == 1
    assert paths[0] in capsys.readouterr().err
    assert main([*averaging, "--batch", "16", "--skip", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["inputs"] == clients.paths
    assert [one["path"] for one in told["skipped"]] == paths
    assert archive.load(out).array_records["model"]["w"].numpy().tolist() == clients.expected()
    assert main(["verify", *clients.paths, "--workers", workers, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [one["path"] for one in told["files"]] == clients.paths
    assert [at for at, one in enumerate(told["files"]) if not one["ok"]] == clients.unreadable
    assert main(["stats", *clients.paths, "--workers", workers, "--nan", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [one["path"] for one in told["arrays"]] == [clients.paths[clients.nan]]
    assert [one["path"] for one in told["errors"]] == [clients.paths[number] for number in clients.unreadable]
