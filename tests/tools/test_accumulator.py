"""Accumulator: the bits of mean(), clients in any order, and nothing lost that was committed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import archive
from archive.errors import (
    ArchiveError,
    DamagedError,
    ExistsError,
    MissingError,
    ReplacedError,
    UnsupportedDtypeError,
    ValueRangeError,
)
from archive.records import ArrayRecord, RecordDict
from archive.tools import Accumulator
from archive.tools.runningsum import RunningSum
from tests.acceptance.samples import CREATED
from tests.tools.test_batches import arrays_of, save_clients


def same_mean(
    sums: Accumulator, paths: list[Path], weights: list[float], folder: Path, **options: Any
) -> None:
    """Require the bytes that mean() writes."""
    out, other = folder / "mean.h5", folder / "accumulated.h5"
    archive.mean(paths, weights, out=out, created=CREATED, **options)
    sums.mean(other, created=CREATED)
    found, wanted = archive.load(other).array_records["model"], archive.load(out).array_records["model"]
    assert list(found) == list(wanted)
    for key in wanted:
        assert found[key].data == wanted[key].data, key
    assert other.stat().st_size == out.stat().st_size


@pytest.mark.parametrize("batch", [2, 3, 64])
@pytest.mark.parametrize("how", ["path", "archive", "records"])
def test_the_bits_of_mean(tmp_path: Path, batch: int, how: str) -> None:
    paths = save_clients(tmp_path, 11)
    weights = [1.0 + number / 3 for number in range(11)]
    sums = Accumulator(tmp_path / "sums", batch)
    for number in (0, 2, 1, 3, 10, 9, 8, 4, 5, 6, 7):
        client: Any = paths[number]
        with contextlib.ExitStack() as stack:
            if how == "archive":
                client = stack.enter_context(archive.open(client))
            if how == "records":
                client = archive.load(client)
            sums.add(client, weights[number], position=number)
    assert [client.position for client in sums.added] == list(range(11))
    assert len(sums) == 11
    assert sums.staged == ()
    same_mean(sums, paths, weights, tmp_path, batch=batch)
    sums.remove()
    assert not list((tmp_path / "sums").iterdir())


def test_every_kind_of_array(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    paths = []
    for number in range(5):
        tied = rng.normal(size=(4, 3)).astype("f4")
        arrays = {
            "tied": tied,
            "too": tied if number != 3 else tied.copy(),
            "fortran": np.asfortranarray(rng.normal(size=(3, 5))),
            "bf": rng.normal(size=9).astype(ml_dtypes.bfloat16),
            "complex": rng.normal(size=9) + 1j * rng.normal(size=9),
            "big": rng.normal(size=9).astype(">f4"),
            "count": np.array(number * 7),
            "ints": rng.integers(-9, 9, 5, "i4"),
            "empty": np.empty((0, 2), "f4"),
            "names": np.array(["a", "bb"]),
            "flags": np.array([True, False]),
            "one": tied,
        }
        record = ArrayRecord({key: archive.array_from_numpy(array) for key, array in arrays.items()})
        record.attributes["role"] = "weights"
        paths.append(tmp_path / f"client{number}.h5")
        archive.save(record, paths[-1])
    sums = Accumulator(tmp_path / "sums", 2)
    for path in paths:
        sums.add(path, 2.5)
    same_mean(sums, paths, [2.5] * 5, tmp_path, batch=2)
    found: Any = archive.load(tmp_path / "accumulated.h5").array_records["model"]
    assert found.attributes == {"role": "weights"}


def test_opened_again_it_knows_who_is_in(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 9)
    weights = [1.0 + number for number in range(9)]
    sums = Accumulator(tmp_path / "sums", 3)
    for number in (0, 1, 2, 3, 5):
        sums.add(paths[number], "num-examples", position=number)
    sums = Accumulator(tmp_path / "sums", 3)
    assert [client.position for client in sums.added] == [0, 1, 2], "a batch is committed by itself"
    assert sums.staged == (5,)
    sums.add(paths[3], weights[3])
    sums.commit()
    for number in (4, 6):
        sums.add(paths[number], weights[number])
    sums = Accumulator(tmp_path / "sums", 3)
    assert [client.position for client in sums.added] == [0, 1, 2, 3, 4, 5], "batches of three"
    assert [(client.name, client.weight) for client in sums.added] == [
        (str(path), weight) for path, weight in zip(paths[:6], weights[:6], strict=True)
    ]
    for number in (6, 7):
        sums.add(paths[number], weights[number])
    sums.commit()
    sums = Accumulator(tmp_path / "sums", 3)
    sums.add(paths[8], weights[8])
    same_mean(sums, paths, weights, tmp_path, batch=3)


def test_the_same_client_twice(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 4)
    sums = Accumulator(tmp_path / "sums", 2)
    sums.add(paths[0])
    sums.add(paths[1], position=1, name="second")
    sums.add(paths[3], position=3)
    sums = Accumulator(tmp_path / "sums", 2)
    copy = tmp_path / "copy.h5"
    for number in (0, 3):
        copy.write_bytes(paths[number].read_bytes())
        with pytest.raises(
            ValueRangeError, match=rf"copy.h5: the same archive was added at position {number}"
        ):
            sums.add(copy)
    with pytest.raises(ValueRangeError, match="a client of this name was added at position 1"):
        sums.add(archive.load(paths[2]), name="second")
    for position in (0, 3):
        with pytest.raises(ValueRangeError, match=f"position {position} is taken"):
            sums.add(paths[2], position=position)
    sums.add(archive.load(paths[2]))
    assert len(sums) == 4


def test_what_cannot_be_added_changes_nothing(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 4)
    arrays = arrays_of(paths[0])
    sums = Accumulator(tmp_path / "sums", 64)
    sums.add(paths[0])
    bad: list[tuple[Any, Any, type[Exception], str]] = [
        (arrays | {"s": np.array(np.nan, "f4")}, 1, ValueRangeError, "'model/s': 1 NaN and 0 infinite of 1"),
        (arrays | {"b": np.zeros(8, "f4")}, 1, ValueRangeError, "model/b"),
        (arrays | {"b": np.zeros(7)}, 1, ValueRangeError, "model/b"),
        (arrays | {"new": np.zeros(7)}, 1, ValueRangeError, "model/new"),
        (arrays, -1, ValueRangeError, "finite and not negative"),
        (arrays, float("nan"), ValueRangeError, "finite and not negative"),
        (arrays, "examples", ValueRangeError, "0 metrics"),
        (tmp_path / "missing.h5", 1, MissingError, "missing.h5"),
        ([("a", np.zeros(1)), ("a", np.zeros(1))], 1, ValueError, "two arrays with the key 'a'"),
        (7, 1, TypeError, "records must be"),
    ]
    damaged = bytearray(paths[1].read_bytes())
    damaged[4099] ^= 1
    (tmp_path / "damaged.h5").write_bytes(damaged)
    bad.append((tmp_path / "damaged.h5", 1, DamagedError, "damaged.h5"))
    for client, weight, kind, says in bad:
        for position in (None, 3):
            with pytest.raises(kind, match=says):
                sums.add(client, weight, position=position)
    assert sums.staged == ()
    for path in paths[1:]:
        sums.add(path)
    same_mean(sums, paths, [1.0] * 4, tmp_path)


def test_arrays_that_are_no_numbers(tmp_path: Path) -> None:
    sums = Accumulator(tmp_path / "sums")
    sums.add({"t": np.array(["a"]), "x": np.ones(1)})
    with pytest.raises(UnsupportedDtypeError, match="model/t"):
        sums.add({"t": np.array(["b"]), "x": np.ones(1)})
    sums.add({"t": np.array(["a"]), "x": np.full(1, 3.0)})
    sums.mean(tmp_path / "mean.h5")
    found = archive.load(tmp_path / "mean.h5").array_records["model"]
    assert (found["t"].numpy().tolist(), found["x"].numpy().tolist()) == (["a"], [2.0])


def test_clients_that_will_not_come(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 7)
    sums = Accumulator(tmp_path / "sums", 2)
    for number in (0, 3, 6):
        sums.add(paths[number], position=number)
    with pytest.raises(ValueRangeError, match=r"clients \[3, 6\] wait for 1"):
        sums.mean(tmp_path / "mean.h5")
    with pytest.raises(ValueRangeError, match="position 2 is not the next, 1 is"):
        sums.leave_out(2)
    for position in (1, 2, 4, 5):
        sums.leave_out(position)
    gone = [paths[number] if number in (0, 3, 6) else tmp_path / f"gone{number}" for number in range(7)]
    same_mean(sums, gone, [1.0] * 7, tmp_path, batch=2, errors="skip")
    assert [client.position for client in Accumulator(tmp_path / "sums", 2).added] == [0, 3, 6]


def test_metrics_are_averaged(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 5)
    sums = Accumulator(tmp_path / "sums", 2, metrics="weighted")
    for number in (0, 4, 3, 1, 2):
        sums.add(archive.load(paths[number]), "num-examples", position=number)
    with pytest.raises(ValueRangeError, match="this metric is not in all archives"):
        sums.add(arrays_of(paths[0]), 1)
    sums.mean(tmp_path / "mean.h5")
    archive.mean(paths, "num-examples", out=tmp_path / "other.h5", batch=2, metrics="weighted")
    found, wanted = (archive.load(tmp_path / name).metrics_records for name in ("mean.h5", "other.h5"))
    assert {name: dict(record) for name, record in found.items()} == {
        name: dict(record) for name, record in wanted.items()
    }


def test_a_full_batch_that_could_not_be_written(tmp_path: Path) -> None:
    """It is written before the next begins, which begins with zeros."""
    paths, folder = save_clients(tmp_path, 5), tmp_path / "sums"
    sums = Accumulator(folder, 2)
    sums.add(paths[0])
    sums.commit()
    folder.rename(tmp_path / "away")
    folder.write_bytes(b"")
    with pytest.raises(ArchiveError):
        sums.add(paths[1])
    with pytest.raises(ArchiveError):
        sums.add(paths[2])
    assert len(sums) == 2
    folder.unlink()
    (tmp_path / "away").rename(folder)
    for path in paths[2:]:
        sums.add(path)
    same_mean(sums, paths, [1.0] * 5, tmp_path, batch=2)


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def test_an_interrupted_addition_is_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = Accumulator(tmp_path / "sums", 4)
    sums.add({"a": np.ones(3)})
    sums.commit()
    with monkeypatch.context() as patch:
        patch.setattr(RunningSum, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sums.add({"a": np.full(3, 3.0)})
    for call in (sums.commit, sums.leave_out, lambda: sums.add({"a": np.ones(3)})):
        with pytest.raises(DamagedError, match="open the accumulator again"):
            call()
    with pytest.raises(DamagedError):
        sums.mean(tmp_path / "mean.h5")
    sums = Accumulator(tmp_path / "sums", 4)
    sums.add({"a": np.full(3, 3.0)})
    sums.mean(tmp_path / "mean.h5")
    assert arrays_of(tmp_path / "mean.h5")["a"].tolist() == [2.0] * 3


def test_sums_of_another_round_are_not_used(tmp_path: Path) -> None:
    """Clients that come as records have no digest: a group is known by the sums in it."""
    out = tmp_path / "mean.h5"
    out.write_bytes(b"")
    sums = Accumulator(tmp_path / "sums", 2)
    for _ in range(6):
        sums.add({"w": np.full(3, 1.0)})
    with pytest.raises(ExistsError):
        sums.mean(out, overwrite=False)
    sums.remove()
    for _ in range(6):
        sums.add({"w": np.full(3, 100.0)})
    sums.mean(out)
    assert arrays_of(out)["w"].tolist() == [100.0] * 3


@pytest.mark.parametrize("count", [1, 3])
def test_another_process_writes_into_the_folder(tmp_path: Path, count: int) -> None:
    """Such as a second server with the same scratch in a bucket, where no lock keeps it out."""
    ours = Accumulator(tmp_path / "s", batch=2)
    theirs = Accumulator(tmp_path / "s", batch=2)
    for number in range(count):
        ours.add({"w": np.full(2, 1, "f4")}, name=f"ours {number}")
        theirs.add({"w": np.full(2, 9, "f4")}, name=f"theirs {number}")
    ours.commit()
    theirs.commit()
    with pytest.raises(ReplacedError, match="was replaced by one of other archives"):
        ours.mean(tmp_path / "mean.h5")
    assert not (tmp_path / "mean.h5").exists()


def test_another_process_replaces_a_client_that_waits(tmp_path: Path) -> None:
    ours = Accumulator(tmp_path / "s")
    ours.add({"w": np.full(2, 1, "f4")}, position=1, name="ours")
    Accumulator(tmp_path / "t").add({"w": np.full(2, 9, "f4")}, position=1, name="theirs")
    os.replace(tmp_path / "t/staged-000000001.h5", tmp_path / "s/staged-000000001.h5")
    with pytest.raises(ReplacedError):
        ours.add({"w": np.full(2, 1, "f4")}, position=0)


def test_another_rule_and_damage(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 3)
    folder = tmp_path / "sums"
    sums = Accumulator(folder, 2)
    for path in paths:
        sums.add(path)
    sums.commit()
    for options in ({"batch": 3}, {"batch": 2, "nan": "allow"}, {"batch": 2, "metrics": "weighted"}):
        with pytest.raises(ValueRangeError, match="begun by another rule"):
            Accumulator(folder, **options)
    first, second = sorted(folder.iterdir())
    held = first.read_bytes()
    first.write_bytes(held[:5000] + b"\xff" + held[5001:])
    with pytest.raises(ArchiveError, match=r"batch-000000.h5"):
        Accumulator(folder, 2).mean(tmp_path / "mean.h5")
    archive.save({"x": np.zeros(1)}, first)
    with pytest.raises(DamagedError, match="not the sum of a batch"):
        Accumulator(folder, 2)
    first.unlink()
    with pytest.raises(ValueRangeError, match="a batch before it is missing"):
        Accumulator(folder, 2)
    first.write_bytes(held)
    second.write_bytes(held)
    with pytest.raises(DamagedError, match="batch 0"):
        Accumulator(folder, 2)


def test_nothing_and_numbers_that_mean_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch"):
        Accumulator(tmp_path / "sums", 1)
    sums = Accumulator(tmp_path / "sums")
    with pytest.raises(ValueRangeError, match="the mean of no archives"):
        sums.mean(tmp_path / "mean.h5")
    with pytest.raises(ValueError, match="position"):
        sums.add({"x": np.zeros(1)}, position=-1)
    sums.add({"x": np.zeros(1)}, 0)
    with pytest.raises(ValueRangeError, match="add up to 0"):
        sums.mean(tmp_path / "mean.h5")


def test_torch_tensors_and_iterators(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    sums = Accumulator(tmp_path / "sums")
    sums.add({"w": torch.full((2,), 1.0)})
    sums.add(iter([("w", np.full(2, 4, "f4"))]), position=2)
    sums.add([("w", np.full(2, 4, "f4"))], position=1)
    sums.mean(tmp_path / "mean.h5")
    assert archive.load(tmp_path / "mean.h5").array_records["model"]["w"].numpy().tolist() == [3, 3]


def test_a_record_dict_of_a_reply(tmp_path: Path) -> None:
    sums = Accumulator(tmp_path / "sums")
    for value, examples in ((1.0, 1), (5.0, 3)):
        reply = RecordDict({"arrays": ArrayRecord({"w": archive.array_from_numpy(np.full(2, value))})})
        reply["metrics"] = archive.MetricRecord({"num-examples": examples})
        sums.add(reply, "num-examples")
    sums.mean(tmp_path / "mean.h5")
    found = archive.load(tmp_path / "mean.h5").array_records["arrays"]
    assert found["w"].numpy().tolist() == [4.0, 4.0]


CHILD = """
import sys
from pathlib import Path
from archive.tools import Accumulator

folder, created = Path(sys.argv[1]), sys.argv[2]
sums = Accumulator(folder / "sums", 4)
order = [int(n) for n in sys.argv[3].split(",")]
known = {client.position for client in sums.added} | set(sums.staged)
for count, number in enumerate(n for n in order if n not in known):
    sums.add(folder / f"client{number:03d}.h5", 1.0 + number, position=number)
    if count % 3 == 0:
        sums.commit()
sums.mean(folder / "accumulated.h5", created=created)
"""


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 40, large=(300, 1000))
    weights = [1.0 + number for number in range(40)]
    archive.mean(paths, weights, out=tmp_path / "mean.h5", batch=4, created=CREATED)
    rng = np.random.default_rng(5)
    order = ",".join(map(str, rng.permutation(40)))
    out = tmp_path / "accumulated.h5"
    command = [sys.executable, "-c", CHILD, str(tmp_path), CREATED, order]
    kills = resumed = 0
    while kills < 20 or not out.exists():
        child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.getcwd()})
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.2 + rng.random() * 2 if kills < 20 else None)
        child.kill()
        if child.wait() == 0:
            assert archive.load(out).array_records["model"]["large"].data == (
                archive.load(tmp_path / "mean.h5").array_records["model"]["large"].data
            )
            if kills < 20:
                out.unlink()
                Accumulator(tmp_path / "sums", 4).remove()
            continue
        kills += 1
        resumed += len(Accumulator(tmp_path / "sums", 4)) > 0
    assert resumed
