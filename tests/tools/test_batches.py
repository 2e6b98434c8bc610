"""mean() of more archives than a batch: one rule for every bit, partial sums that are proven, bad inputs."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import (
    ArchiveError,
    ExistsError,
    MissingError,
    ReplacedError,
    UnsupportedDtypeError,
    ValueRangeError,
)
from archive.records import ArrayRecord, RecordSet
from archive.tools import batches
from archive.tools.collection import collect_garbage
from tests.acceptance.samples import CREATED, NDArray

LAYERS = {"a": (3, 50), "b": (7,), "c": (200, 9), "s": ()}


def save_clients(folder: Path, count: int, **shapes: Any) -> list[Path]:
    """Save clients of one model, every third with its arrays in another order."""
    rng = np.random.default_rng(count)
    paths = []
    for number in range(count):
        arrays = {
            key: np.asarray(rng.normal(size=shape) * 10.0 ** rng.integers(-3, 4, shape), "f4")
            for key, shape in (LAYERS | shapes).items()
        }
        if number % 3 == 2:
            arrays = dict(reversed(arrays.items()))
        records = RecordSet(
            {"model": ArrayRecord({key: archive.records.Array(a) for key, a in arrays.items()})}
        )
        records.metrics_records["fit"] = archive.MetricRecord(
            {"num-examples": number + 1, "loss": 0.1 * number, "each": [1.0 * number, 2.0]}
        )
        paths.append(folder / f"client{number:03d}.h5")
        archive.save(records, paths[-1], durable=False, created=CREATED)
    return paths


def arrays_of(path: Path) -> dict[str, NDArray]:
    record = archive.load(path).array_records["model"]
    return {key: array.numpy() for key, array in record.items()}


def by_the_rule(paths: list[Path], weights: list[float], batch: int, skip: tuple[int, ...] = ()) -> Any:
    """Return the mean as the rule of batches words it, array by array with numpy alone."""
    inputs = [arrays_of(path) if number not in skip else None for number, path in enumerate(paths)]
    names = next(found for found in inputs if found)
    total = float(sum(weight for number, weight in enumerate(weights) if number not in skip))
    means = {}
    for key, first in names.items():
        sums = []
        for at in range(0, len(inputs), batch):
            summed = np.zeros(first.shape)
            for found, weight in zip(inputs[at : at + batch], weights[at : at + batch], strict=True):
                if found is not None:
                    summed = summed + found[key].astype("f8") * weight
            sums.append(summed)
        while len(sums) > 1:
            sums = [sum(sums[at : at + batch], np.zeros(first.shape)) for at in range(0, len(sums), batch)]
        means[key] = (sums[0] / total).astype(first.dtype)
    return means


def require_equal(path: Path, wanted: dict[str, NDArray]) -> None:
    found = arrays_of(path)
    assert set(found) == set(wanted)
    for key, array in wanted.items():
        assert found[key].tobytes() == array.tobytes(), key


@pytest.mark.parametrize("batch", [2, 3, 5, 64])
def test_one_rule_decides_every_bit(tmp_path: Path, batch: int) -> None:
    paths = save_clients(tmp_path, 17)
    weights = [1.0 + number / 7 for number in range(17)]
    report = archive.mean(paths, weights, out=tmp_path / "mean.h5", batch=batch)
    require_equal(tmp_path / "mean.h5", by_the_rule(paths, weights, batch))
    assert list(arrays_of(tmp_path / "mean.h5")) == list(LAYERS)
    assert (report.inputs, report.skipped) == (17, ())
    assert sorted(tmp_path.iterdir()) == [*paths, tmp_path / "mean.h5"]


def test_windows_change_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays of more than a window, and of more than a block of the addition."""
    paths = save_clients(tmp_path, 4, large=(401, 1001))
    wanted = by_the_rule(paths, [1.0] * 4, 64)
    for stored, block in ((512 << 10, 1 << 15), (65536, 77), (200_000, 1 << 20), (8 << 20, 4096)):
        monkeypatch.setattr("archive.tuning.MEAN_BYTES", stored)
        monkeypatch.setattr("archive.tuning.MEAN_BLOCK", block)
        archive.mean(paths, out=tmp_path / "mean.h5", durable=False)
        require_equal(tmp_path / "mean.h5", wanted)


def test_weights_by_a_metric_and_weighted_metrics(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 9)
    weights = [1.0 + number for number in range(9)]
    for batch in (2, 64):
        out = tmp_path / "mean.h5"
        archive.mean(paths, "num-examples", out=out, batch=batch, metrics="weighted")
        require_equal(out, by_the_rule(paths, weights, batch))
        found: Any = archive.load(out).metrics_records["fit"]
        assert set(found) == {"loss", "each"}
        assert found["loss"] == pytest.approx(sum(w * 0.1 * n for n, w in enumerate(weights)) / 45)
        assert found["each"] == pytest.approx([sum(w * n for n, w in enumerate(weights)) / 45, 2.0])
    with pytest.raises(ValueRangeError, match=r"client000.h5: 'examples': 0 metrics"):
        archive.mean(paths, "examples", out=out)
    with pytest.raises(ValueRangeError, match="a weight is a number"):
        archive.mean(paths, "fit/each", out=out)
    archive.save(
        archive.load(paths[4]).array_records["model"], paths[4], metrics={"fit": {"num-examples": 5}}
    )
    with pytest.raises(ValueRangeError, match=r"client004.h5: 'fit/each': this metric is not in all"):
        archive.mean(paths, "num-examples", out=out, metrics="weighted", batch=2)


def spoil(paths: list[Path]) -> dict[int, str]:
    """Damage one client, remove one, have one diverge, give one another schema; return what says so."""
    with archive.open(paths[3]) as handle:
        offset = handle["c"].payload.where[1]  # type: ignore[attr-defined]
    data = bytearray(paths[3].read_bytes())
    data[offset + 70] ^= 0x40
    paths[3].write_bytes(data)
    paths[5].unlink()
    arrays = arrays_of(paths[6])
    archive.save(arrays | {"b": np.full(7, np.nan, "f4")}, paths[6], metrics={"fit": {"num-examples": 7}})
    archive.save({key: arrays[key] for key in ("a", "b", "c")}, paths[8])
    return {3: "model/c", 5: "no such file", 6: "7 NaN", 8: "not in all archives"}


@pytest.mark.parametrize("batch", [2, 4, 64])
def test_bad_inputs_are_named_or_left_out(tmp_path: Path, batch: int) -> None:
    paths = save_clients(tmp_path, 11)
    bad = spoil(paths)
    weights = [2.0 + number for number in range(11)]
    out = tmp_path / "mean.h5"
    with pytest.raises(ArchiveError) as raised:
        archive.mean(paths, weights, out=out, batch=batch)
    assert "client00" in str(raised.value)
    assert not out.exists()
    report = archive.mean(paths, weights, out=out, batch=batch, errors="skip")
    assert [one.position for one in report.skipped] == list(bad)
    for one in report.skipped:
        assert one.path == str(paths[one.position])
        assert one.path in str(one.error)
        assert bad[one.position] in str(one.error)
    assert report.inputs == 7
    require_equal(out, by_the_rule(paths, weights, batch, tuple(bad)))
    assert not list(tmp_path.glob(".*"))


def test_the_first_of_all_is_bad(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 6)
    paths[0].write_bytes(b"no archive")
    with archive.open(paths[1]) as handle:
        offset = handle["a"].payload.where[1]  # type: ignore[attr-defined]
    with paths[1].open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff\xff")
    for batch in (2, 64):
        report = archive.mean(paths, out=tmp_path / "mean.h5", batch=batch, errors="skip")
        assert [one.position for one in report.skipped] == [0, 1]
        require_equal(tmp_path / "mean.h5", by_the_rule(paths, [1.0] * 6, batch, (0, 1)))


@pytest.mark.parametrize("batch", [2, 64])
def test_the_first_has_no_weight(tmp_path: Path, batch: int) -> None:
    """What is left out does not decide which arrays the others must have."""
    paths = save_clients(tmp_path, 4)
    archive.save({"other": np.ones(3)}, paths[0])
    report = archive.mean(paths, "num-examples", out=tmp_path / "mean.h5", batch=batch, errors="skip")
    assert [one.position for one in report.skipped] == [0]
    require_equal(tmp_path / "mean.h5", by_the_rule(paths, [0.0, 2.0, 3.0, 4.0], batch, (0,)))


MANY_AT_ONCE = """
import os, pathlib, resource, sys, archive
folder = pathlib.Path(sys.argv[1])
paths = sorted(folder.iterdir())
archive.mean(paths[:2], out=folder.parent / "imports.h5", errors="skip")
limit = len(os.listdir("/dev/fd")) + 20
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
try:
    archive.mean(paths, out=folder.parent / "mean.h5", errors="skip")
except archive.errors.StorageError as error:
    print(error)
"""


def test_too_few_descriptors_leave_nobody_out(tmp_path: Path) -> None:
    """A limit of the system says nothing of an archive.

    A fresh process has no gaps among its descriptors. A worker of pytest has, and each gap is one more.
    """
    pytest.importorskip("resource")
    clients = tmp_path / "clients"
    clients.mkdir()
    save_clients(clients, 40)
    ran = subprocess.run(
        [sys.executable, "-c", MANY_AT_ONCE, str(clients)], capture_output=True, text=True, check=True
    )
    assert re.search(r"client0.*Too many open files", ran.stdout)
    assert not (tmp_path / "mean.h5").exists()


def test_nothing_is_left(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.h5" for number in range(5)]
    for batch in (2, 64):
        with pytest.raises(ValueRangeError, match="no archive is left"):
            archive.mean(paths, out=tmp_path / "mean.h5", batch=batch, errors="skip")
        with pytest.raises(MissingError):
            archive.mean(paths, out=tmp_path / "mean.h5", batch=batch)
    saved = save_clients(tmp_path, 3)
    with pytest.raises(ValueRangeError, match="add up to 0"):
        archive.mean([*saved, *paths], [0, 0, 0, 1, 1, 1, 1, 1], out=tmp_path / "m", batch=2, errors="skip")


def test_arrays_that_are_no_numbers_are_those_of_the_first(tmp_path: Path) -> None:
    paths = []
    for number in range(7):
        paths.append(tmp_path / f"{number}.h5")
        arrays = {"x": np.full(2, float(number)), "t": np.array(["b" if number == 5 else "a"])}
        archive.save(arrays, paths[-1])
    for batch in (2, 64):
        with pytest.raises(UnsupportedDtypeError, match=r"5.h5: 'model/t'"):
            archive.mean(paths, out=tmp_path / "mean.h5", batch=batch)
        report = archive.mean(paths, out=tmp_path / "mean.h5", batch=batch, errors="skip")
        assert [one.position for one in report.skipped] == [5]
        found = arrays_of(tmp_path / "mean.h5")
        assert (found["t"].tolist(), found["x"].tolist()) == (["a"], [16 / 6] * 2)


def test_a_file_that_must_not_be_replaced(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 5)
    with pytest.raises(ExistsError):
        archive.mean(paths, out=paths[0], batch=2, overwrite=False)
    assert sorted(tmp_path.iterdir()) == paths


class Counted(Executor):
    """Runs tasks here, and ends after some of them as a killed process does."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.most, self.results = most, list[Any]()

    def submit(self, call: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if len(self.results) >= self.most:
            raise KeyboardInterrupt
        self.results.append(call(*arguments, **named))
        future.set_result(self.results[-1])
        return future


def partials(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*.sum.h5")}


def test_what_is_there_is_not_computed_again(tmp_path: Path) -> None:
    paths, out, scratch = save_clients(tmp_path, 11), tmp_path / "mean.h5", tmp_path / "scratch"
    wanted = by_the_rule(paths, [1.0] * 11, 2)
    with pytest.raises(KeyboardInterrupt):
        archive.mean(paths, out=out, batch=2, scratch=scratch, executor=Counted(4))
    before = partials(scratch)
    assert len(before) == 4
    with pytest.raises(KeyboardInterrupt):
        archive.mean(paths, out=out, batch=2, scratch=scratch, executor=Counted(8))
    after = partials(scratch)
    assert len(after) == 8
    assert {name: after[name] for name in before} == before
    archive.mean(paths, out=out, batch=2, scratch=scratch)
    require_equal(out, wanted)
    assert not scratch.exists()


def test_only_the_same_inputs_and_weights_use_it(tmp_path: Path) -> None:
    paths, out, scratch = save_clients(tmp_path, 6), tmp_path / "mean.h5", tmp_path / "scratch"
    with pytest.raises(KeyboardInterrupt):
        archive.mean(paths, out=out, batch=2, scratch=scratch, executor=Counted(3))
    old = partials(scratch)
    archive.mean(paths, [1, 2, 3, 4, 5, 6], out=out, batch=2, scratch=scratch)
    require_equal(out, by_the_rule(paths, [1.0, 2, 3, 4, 5, 6], 2))
    assert partials(scratch) == old, "those of another call stay"
    archive.save(arrays_of(paths[0]), paths[1], durable=False)
    archive.mean(paths, out=out, batch=2, scratch=scratch)
    require_equal(out, by_the_rule(paths, [1.0] * 6, 2))
    assert len(partials(scratch)) == 1, "the two that were the same were used, and removed"


def test_partial_sums_that_are_not_right_are_computed_anew(tmp_path: Path) -> None:
    paths, out, scratch = save_clients(tmp_path, 8), tmp_path / "mean.h5", tmp_path / "scratch"
    wanted = by_the_rule(paths, [1.0] * 8, 2)

    def half() -> list[Path]:
        with pytest.raises(KeyboardInterrupt):
            archive.mean(paths, out=out, batch=2, scratch=scratch, executor=Counted(4))
        return sorted(scratch.glob("*.sum.h5"))

    damaged, cut, swapped, other = half()
    good = swapped.read_bytes()
    data = bytearray(damaged.read_bytes())
    data[4100] ^= 1
    damaged.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-300])
    swapped.write_bytes(other.read_bytes())  # a good sum of other inputs
    with archive.open(other) as handle:  # what it says is right, but its arrays are not
        configs = dict(handle.records.configs_records["fedarchive.partial"])
    archive.save({"a": np.zeros((3, 50))}, other, configs={"fedarchive.partial": configs})
    half()
    assert swapped.read_bytes() == good
    archive.mean(paths, out=out, batch=2, scratch=scratch)
    require_equal(out, wanted)


def damage(path: Path) -> None:
    """Change a byte of an array: the file keeps its version."""
    with archive.open(path) as handle:
        offset = handle["c"].payload.where[1]  # type: ignore[attr-defined]
    data = bytearray(path.read_bytes())
    data[offset + 70] ^= 0x40
    path.write_bytes(data)


def test_groups_are_of_the_sums_that_are_there(tmp_path: Path) -> None:
    """A client was left out as damaged, and is whole again: its sums are made anew."""
    paths, scratch = save_clients(tmp_path, 10), tmp_path / "scratch"
    whole = paths[1].read_bytes()
    damage(paths[1])
    made = Counted(8)
    with pytest.raises(KeyboardInterrupt):
        archive.mean(paths, out=tmp_path / "mean.h5", batch=2, scratch=scratch, errors="skip", executor=made)
    paths[1].write_bytes(whole)
    Path(made.results[0].place.path).unlink()
    report = archive.mean(paths, out=tmp_path / "mean.h5", batch=2, scratch=scratch, errors="skip")
    assert report.inputs == 10
    require_equal(tmp_path / "mean.h5", by_the_rule(paths, [1.0] * 10, 2))


def test_a_client_that_was_repaired_is_left_out_no_more(tmp_path: Path) -> None:
    paths, scratch = save_clients(tmp_path, 4), tmp_path / "scratch"
    whole = paths[1].read_bytes()
    damage(paths[1])
    with pytest.raises(KeyboardInterrupt):
        archive.mean(
            paths, out=tmp_path / "mean.h5", batch=2, scratch=scratch, errors="skip", executor=Counted(1)
        )
    paths[1].write_bytes(whole)
    report = archive.mean(paths, out=tmp_path / "mean.h5", batch=2, scratch=scratch, errors="skip")
    assert report.skipped == ()
    require_equal(tmp_path / "mean.h5", by_the_rule(paths, [1.0] * 4, 2))


class Meddling(Counted):
    """Replaces a partial sum after it was made, as a run beside this one may."""

    def submit(self, call: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        future = super().submit(call, *arguments, **named)
        if len(self.results) == 2:
            first, second = (Path(made.place.path) for made in self.results)
            first.write_bytes(second.read_bytes())
        return future


@pytest.mark.parametrize("count", [4, 6])
def test_a_partial_sum_that_was_replaced(tmp_path: Path, count: int) -> None:
    paths = save_clients(tmp_path, count)
    with pytest.raises(ReplacedError, match="this partial sum was replaced"):
        archive.mean(paths, out=tmp_path / "mean.h5", batch=2, executor=Meddling())
    assert not (tmp_path / "mean.h5").exists()


def test_others_cannot_put_sums_there(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 5)
    scratch = tmp_path / ".mean.h5.sums"
    scratch.mkdir()
    scratch.chmod(0o777)
    with pytest.raises(ArchiveError, match="others could put sums there"):
        archive.mean(paths, out=tmp_path / "mean.h5", batch=2)
    assert not (tmp_path / "mean.h5").exists()


def test_left_sums_are_garbage(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 6)
    with pytest.raises(KeyboardInterrupt):
        archive.mean(paths, out=tmp_path / "mean.h5", batch=2, executor=Counted(2))
    (scratch,) = tmp_path.glob(".*")
    assert scratch.stat().st_mode & 0o777 == 0o700
    theirs = scratch / f"{'0' * 32}.sum.h5"
    archive.save({"x": np.zeros(3)}, theirs)
    found = collect_garbage(tmp_path, older_than=-1, dry_run=True)
    assert len(found) == 2
    assert collect_garbage(tmp_path, older_than=3600) == []
    assert [one.path for one in collect_garbage(tmp_path, older_than=-1)] == [one.path for one in found]
    assert list(scratch.iterdir()) == [theirs]
    theirs.unlink()
    with pytest.raises(KeyboardInterrupt):
        archive.mean(paths, out=tmp_path / "mean.h5", batch=2, executor=Counted(2))
    collect_garbage(tmp_path, older_than=-1)
    assert not scratch.exists()


def test_progress_by_bytes_of_the_inputs(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 7)
    nbytes = 7 * sum(array.nbytes for array in arrays_of(paths[0]).values())
    told: list[tuple[int, int]] = []
    for executor in (None, Counted()):
        told.clear()
        archive.mean(
            paths, out=tmp_path / "m.h5", batch=2, executor=executor, progress=lambda *at: told.append(at)
        )
        assert told == sorted(set(told))
        assert len(told) >= 4
        assert told[-1] == (nbytes, nbytes)


@pytest.mark.parametrize(
    "given", [{"batch": 1}, {"batch": True}, {"nan": "skip"}, {"metrics": "mean"}, {"errors": "column"}]
)
def test_words_that_mean_nothing(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(given))):
        archive.mean([], out=tmp_path / "mean.h5", **given)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.mark.slow
def test_processes_give_the_same_bits(tmp_path: Path, pool: ProcessPoolExecutor) -> None:
    paths = save_clients(tmp_path, 40)
    bad = spoil(paths)
    archive.mean(paths, out=tmp_path / "serial.h5", batch=3, errors="skip", created=CREATED)
    report = archive.mean(
        paths, out=tmp_path / "shared.h5", batch=3, errors="skip", created=CREATED, executor=pool
    )
    assert (tmp_path / "serial.h5").read_bytes() == (tmp_path / "shared.h5").read_bytes()
    assert [one.position for one in report.skipped] == list(bad)


def stop(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_process_that_dies(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 9)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        assert executor.submit(stop, 0).exception() is not None
        with pytest.raises(ArchiveError, match="a process of the executor died"):
            archive.mean(paths, out=tmp_path / "mean.h5", batch=2, executor=executor)
    archive.mean(paths, out=tmp_path / "mean.h5", batch=2)
    require_equal(tmp_path / "mean.h5", by_the_rule(paths, [1.0] * 9, 2))


CHILD = """
import sys, archive
folder, created = sys.argv[1:]
archive.mean(folder + "/client*.h5", "num-examples", out=folder + "/mean.h5", batch=4, created=created)
"""


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 60, large=(300, 1000))
    wanted = by_the_rule(paths, [1.0 + number for number in range(60)], 4)
    out, scratch = tmp_path / "mean.h5", tmp_path / ".mean.h5.sums"
    seen: dict[str, tuple[int, bytes]] = {}
    rng = np.random.default_rng(5)
    kills = resumed = 0
    command = [sys.executable, "-c", CHILD, str(tmp_path), CREATED]
    while kills < 20 or not out.exists():
        child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.getcwd()})
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.2 + rng.random() * 1.5 if kills < 20 else None)
        child.kill()
        if child.wait() == 0:
            require_equal(out, wanted)
            assert not scratch.exists()
            if kills < 20:
                out.unlink()
                seen = {}
            continue
        kills += 1
        now = partials(scratch)
        if out.exists():  # killed as it removed the sums of a mean that is there
            require_equal(out, wanted)
            out.unlink()
            seen = now
            continue
        assert {name: now[name] for name in seen} == seen, "a published sum was computed again"
        resumed += bool(now)
        seen = now
    assert resumed


def test_tasks_are_picklable_and_name_archives_alone(tmp_path: Path) -> None:
    paths = save_clients(tmp_path, 6)

    class Pickling(Counted):
        def submit(self, call: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
            sent = pickle.dumps((call, arguments, named))
            assert len(sent) < 4000
            call, arguments, named = pickle.loads(sent)
            future = super().submit(call, *arguments, **named)
            self.results[-1] = pickle.loads(pickle.dumps(self.results[-1]))
            assert isinstance(self.results[-1], batches.Partial)
            return future

    archive.mean(paths, out=tmp_path / "mean.h5", batch=2, executor=Pickling())
    require_equal(tmp_path / "mean.h5", by_the_rule(paths, [1.0] * 6, 2))
