"""The day of an analyst on a run of 20 clients and 20 rounds: every task is two lines, or one command.

The tasks are strings, so that the lines are counted that an analyst would type; what they print or return is
compared with what was saved.
"""

from __future__ import annotations

import csv
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.cli import main
from archive.errors import SkippedWarning

CLIENTS = [f"client-{number:02}" for number in range(20)]
ROUNDS = range(1, 21)
SHAPES = {"conv.weight": (4, 3, 3), "conv.bias": (4,), "fc.weight": (16, 8), "fc.bias": (16,), "half": (32,)}
BAD = (13, "client-07")
"""Round and client of the NaN."""

Out = pytest.CaptureFixture[str]


def weights(number: int, client: int = -1) -> dict[str, Any]:
    """Return the model of a round, or what a client made of the model of the round before."""
    rng = np.random.default_rng([number, client + 1])
    made = {key: rng.standard_normal(shape).astype("f4") for key, shape in SHAPES.items()}
    made["half"] = made["half"].astype("f2")
    if (number, f"client-{client:02}") == BAD:
        made["fc.weight"][2, 3] = np.nan
    return made


def accuracy(number: int, client: int) -> float:
    return number / 20 - client / 1000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of 20 clients and 20 rounds, and the model it began with."""
    folder = tmp_path_factory.mktemp("runs") / "adam"
    store = archive.CheckpointStore(folder, check="off", best_by="loss")
    store.save(weights(0), 0, metrics={"loss": 2.0})
    for number in ROUNDS:
        for client, name in enumerate(CLIENTS):
            metrics = {"accuracy": accuracy(number, client), "examples": 100 + client}
            store.save(weights(number, client), number, client=name, metrics=metrics)
        store.save(weights(number), number, metrics={"loss": 1 / number})
    return str(folder)


@pytest.fixture(scope="module")
def broken(run: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """420 files, one damaged and one gone: the names of all, these two first."""
    import shutil

    folder = tmp_path_factory.mktemp("broken") / "adam"
    shutil.copytree(run, folder)
    damaged, gone = folder / "rounds/00000005/client-03.h5", folder / "rounds/00000009/client-11.h5"
    data = bytearray(damaged.read_bytes())
    data[-100:] = bytes(100)
    damaged.write_bytes(data)
    gone.unlink()
    others = sorted(str(path) for path in folder.glob("rounds/**/*.h5") if path != damaged)
    return [str(damaged), str(gone), *(path for path in others if "00000000" not in path)]


def work(lines: str, **given: Any) -> Any:
    """Run what an analyst types, at most two lines, and return the value of the last."""
    typed = lines.strip().splitlines()
    assert len(typed) <= 2, typed
    names: dict[str, Any] = {"archive": archive, "np": np, **given}
    *before, last = typed
    for line in before:
        exec(line, names)
    return eval(last, names)


def rows_of(capsys: Out) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline="")))


def test_accuracy_per_client_and_round(run: str) -> None:
    pytest.importorskip("pandas")
    frame = work(
        """
frame = archive.CheckpointStore(run).history(clients=True).to_pandas()
frame.pivot_table(index="client", columns="round", values="accuracy")
""",
        run=run,
    )
    for client, name in enumerate(CLIENTS):
        assert frame.loc[name].tolist() == [accuracy(number, client) for number in ROUNDS]


def test_a_look_at_a_run(run: str, capsys: Out) -> None:
    assert main(["runs", "show", run]) == 0
    assert "0-20" in capsys.readouterr().out
    assert main(["runs", "history", run, "--csv"]) == 0
    assert [float(row["loss"]) for row in rows_of(capsys)] == [2.0, *(1 / number for number in ROUNDS)]
    assert main(["info", run, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["clients"]) == 20
    assert main(["ls", run, "--tree"]) == 0
    assert "conv" in capsys.readouterr().out
    assert main(["verify", run, "--json"]) == 0
    assert sum(one["files"] for one in json.loads(capsys.readouterr().out)["rounds"]) == 421


def test_one_damaged_and_one_missing_of_420_in_a_table(broken: list[str]) -> None:
    damaged, gone = broken[:2]
    assert len(broken) == 420
    with pytest.warns(SkippedWarning) as told:
        found = work('archive.table(files, errors="skip")', files=broken)
    assert len(found["path"]) == 418
    assert damaged in str(told[0].message)
    assert gone in str(told[0].message)
    found = work('archive.table(files, errors="column")', files=broken)
    named = {path: error for path, error in zip(found["path"], found["error"], strict=True) if error}
    assert len(found["path"]) == 420
    assert sorted(named) == sorted([damaged, gone])
    with pytest.raises(archive.ArchiveError, match="client-03"):
        work("archive.table(files)", files=broken)


def test_one_damaged_and_one_missing_of_420_in_a_history(broken: list[str]) -> None:
    store = archive.CheckpointStore(Path(broken[0]).parents[2])
    found = work('store.history(clients=True, errors="column")', store=store)
    assert found["client"][found["error"] != None].tolist() == ["client-03", "client-11"]  # noqa: E711 a column
    with pytest.warns(SkippedWarning, match="client-03"):
        found = work('store.history(clients=True, errors="skip")', store=store)
    assert len(found["path"]) == 421 - 2
    with pytest.raises(archive.ArchiveError, match="client-03"):
        work("store.history(clients=True)", store=store)


def test_one_damaged_and_one_missing_of_420_in_stats(broken: list[str], capsys: Out) -> None:
    with pytest.warns(SkippedWarning) as told:
        found = work('archive.tools.stats(files, keys="fc.bias", errors="skip")', files=broken)
    assert all(path in str(told[0].message) for path in broken[:2])
    assert len(found["path"]) == 418
    found = work('archive.tools.stats(files, keys="fc.bias", errors="column")', files=broken)
    assert sorted(found["path"][found["error"] != None]) == sorted(broken[:2])  # noqa: E711 a column
    assert len(found["path"]) == 420
    assert main(["stats", *broken, "--keys", "fc.bias", "--csv"]) == 1
    told_twice = capsys.readouterr()
    assert all(path in told_twice.err for path in broken[:2])
    assert told_twice.out.count("fc.bias") == 418


def test_one_damaged_and_one_missing_of_420_in_verify(broken: list[str], capsys: Out) -> None:
    assert main(["verify", *broken, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [one["path"] for one in told["files"] if not one["ok"]] == broken[:2]
    assert len(told["files"]) == 420


def test_which_client_sent_nan(run: str, capsys: Out) -> None:
    found = work('archive.tools.stats(f"{run}/rounds/*/*.h5", keys="fc.*")', run=run)
    bad = found["nan"] > 0
    assert (found["round"][bad].tolist(), found["client"][bad].tolist(), found["key"][bad].tolist()) == (
        [BAD[0]], [BAD[1]], ["fc.weight"]
    )  # fmt: skip
    assert main(["stats", f"{run}/rounds/*/*.h5", "--nan", "--csv"]) == 0
    [row] = rows_of(capsys)
    assert (row["round"], row["client"], row["key"], row["nan"]) == ("13", "client-07", "fc.weight", "1")


def test_the_store_says_which_client_sent_nan(tmp_path: Path) -> None:
    store = archive.CheckpointStore(tmp_path / "run")
    with pytest.warns(archive.errors.NonFiniteWarning, match="client-07") as told:
        store.save(weights(13, 7), 13, client="client-07")
    assert "fc.weight" in str(told[0].message)


def test_norms_of_a_layer_over_the_rounds(run: str) -> None:
    found = work('archive.tools.stats(f"{run}/rounds/*.h5", keys="fc.weight")', run=run)
    wanted = [np.linalg.norm(weights(number)["fc.weight"].astype("f8")) for number in (0, *ROUNDS)]
    assert found["round"].tolist() == [0, *ROUNDS]
    assert np.allclose(found["norm"], wanted, rtol=1e-12)


def test_difference_of_two_rounds(run: str, capsys: Out) -> None:
    store = archive.CheckpointStore(run)
    with store.open(6) as six, store.open(7) as seven:
        diff = work("archive.tools.diff(six, seven)", six=six, seven=seven)
    assert not diff.equal
    assert main(["diff", run, "--round", "6,7", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    there = weights(7)["fc.bias"].astype("f8") - weights(6)["fc.bias"].astype("f8")
    [row] = [one for one in told["changed"] if one["key"] == "fc.bias"]
    assert row["max_abs"] == np.abs(there).max()
    assert main(["diff", run, "--round", "7,7"]) == 0


def test_drift_of_clients_from_the_global_model(run: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        drift = work("archive.CheckpointStore(run).updates(7).drift()", run=run)
    assert drift["client"].tolist() == CLIENTS

    def flat(model: dict[str, Any]) -> Any:
        return np.concatenate([array.astype("f8").ravel() for array in model.values()])

    base, step = flat(weights(6)), flat(weights(7)) - flat(weights(6))
    for client, norm, cosine in zip(range(20), drift["norm"], drift["cosine"], strict=True):
        update = flat(weights(7, client)) - base
        assert norm == pytest.approx(np.linalg.norm(update), rel=1e-6)
        assert cosine == pytest.approx(
            update @ step / np.linalg.norm(update) / np.linalg.norm(step), rel=1e-6
        )


def test_one_layer_of_all_clients(run: str) -> None:
    spread = work('archive.CheckpointStore(run).stack("fc.bias", round=7)[:, :4].std(axis=0)', run=run)
    wanted = np.stack([weights(7, client)["fc.bias"][:4] for client in range(20)]).std(axis=0)
    assert np.array_equal(spread, wanted)


def test_the_biggest_arrays(run: str, capsys: Out) -> None:
    assert main(["ls", run, "--sort", "size", "--csv"]) == 0
    listed = [row["key"] for row in rows_of(capsys) if row["key"] in SHAPES]
    assert listed[0] == "fc.weight"


def test_two_experiments_side_by_side(run: str) -> None:
    other = Path(run).parent / "sgd"
    if not other.exists():
        archive.CheckpointStore(other).save(weights(1), 1, metrics={"loss": 9.0})
    table = work('archive.table(f"{runs}/*/rounds/*.h5")', runs=Path(run).parent)
    assert dict(zip(table["run"], table["loss"], strict=True)) == {"adam": 1 / 20, "sgd": 9.0}
    assert (table["file_bytes"] > 1000).all()
    assert table["arrays"].tolist() == [5] * 22
