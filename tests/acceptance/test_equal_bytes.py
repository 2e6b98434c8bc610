"""The same records have the same bytes, however they are written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
import archive.tools
from archive.dtypes import NDArray
from tests.children import child_environment
from tests.servers.s3 import BUCKET, S3Server

CREATED = "2026-01-02T03:04:05Z"
SIZES = (0, 1, 65_535, 65_536, 65_537)
LARGE_SIZES = (64 << 20, (64 << 20) + 1, 130_000_000)
METRICS: dict[str, Any] = {"loss": 0.5, "per_class": [0.25, float("nan"), -0.0], "n": 2**63 - 1}
CONFIGS: dict[str, Any] = {
    "name": "caf\u00e9",
    "flag": True,
    "blob": b'["\x00' * 30_000,
    "many": list(range(9000)),
}
Sizes = tuple[int, ...]


def arrays_of(sizes: Sizes) -> dict[str, NDArray]:
    """Arrays of these sizes, and arrays that are stored in other ways."""
    random = np.random.default_rng(16)
    made: dict[str, NDArray] = {f"of {size} bytes": random.integers(0, 256, size, "u1") for size in sizes}
    made["fortran"] = np.asfortranarray(random.standard_normal((300, 70)))
    made["text"] = np.array(["", "a", "\u00e9\u4e2d" * 5, "x" * 300] * 80).reshape(4, 80)
    made["members"] = np.zeros(5000, [("a", "<i4"), ("b", "u1"), ("c", ">f8")])
    made["scalar"] = np.array(7, ">i8")
    made["rows"] = random.standard_normal((1000, 33)).astype("f4")
    return made


def records_of(sizes: Sizes) -> archive.RecordSet:
    model = archive.ArrayRecord({key: archive.Array(data) for key, data in arrays_of(sizes).items()})
    model.attributes["round"] = 16
    return archive.RecordSet(
        {"model": model}, {"fit": archive.MetricRecord(METRICS)}, {"run": archive.ConfigRecord(CONFIGS)}
    )


def planned(sizes: Sizes, path: Path) -> None:
    archive.save(records_of(sizes), path, created=CREATED, durable=False)


def _give_values(writer: Any) -> None:
    writer.attributes["model"] = {"round": 16}
    writer.metrics["fit"] = METRICS
    writer.configs["run"] = CONFIGS


def added(sizes: Sizes, path: Path) -> None:
    with archive.create(path, created=CREATED, durable=False) as writer:
        for key, data in arrays_of(sizes).items():
            writer.add("model", key, data)
        _give_values(writer)


def pieces_of(data: NDArray, length: int) -> Iterator[NDArray]:
    for start in range(0, len(data), length):
        yield data[start : start + length]


def in_pieces(sizes: Sizes, path: Path) -> None:
    """Arrays in pieces of odd sizes, those that can be: neither Fortran, text nor scalar."""
    with archive.create(path, created=CREATED, durable=False) as writer:
        for number, (key, data) in enumerate(arrays_of(sizes).items()):
            whole = not data.ndim or data.dtype.kind == "U" or key == "fortran"
            if whole:
                writer.add("model", key, data)
            else:
                length = (7, 1021, 4099, 65_537)[number % 4] if len(data) < 1 << 20 else 9_999_991
                pieces = pieces_of(data, length)
                writer.add("model", key, pieces, shape=data.shape, dtype=data.dtype)
        _give_values(writer)


def consumed(sizes: Sizes, path: Path) -> None:
    archive.save(records_of(sizes), path, created=CREATED, durable=False, keep_input=False)


def edited(sizes: Sizes, path: Path) -> None:
    planned(sizes, source := path.with_name("source.h5"))
    with archive.open(source) as saved:
        archive.save(saved.records, path, created=CREATED, durable=False)


def edited_unmapped(sizes: Sizes, path: Path) -> None:
    planned(sizes, source := path.with_name("source.h5"))
    with archive.open(source, access="pread") as saved:
        archive.save(saved.records, path, created=CREATED, durable=False)


def edited_by_tool(sizes: Sizes, path: Path) -> None:
    """Arrays that are not touched are copied by the system, and every kind of edit leads to the same."""
    other, arrays, records = path.with_name("source.h5"), arrays_of(sizes), records_of(sizes)
    model = archive.ArrayRecord({"surplus": archive.Array(np.zeros(70_000))})
    for key, data in arrays.items():
        model["renamed" if key == "members" else key] = archive.Array(data + 1 if key == "rows" else data)
    model.attributes["round"] = 16
    records["model"] = model
    del records["fit"]
    archive.save(records, other, created=CREATED, durable=False)
    with archive.tools.edit(other, path, durable=False) as e:
        e["model", "rows"] = arrays["rows"]
        e.rename("renamed", "members")
        del e["surplus"]
        e.metrics["fit"] = METRICS


def loaded(sizes: Sizes, path: Path) -> None:
    planned(sizes, source := path.with_name("source.h5"))
    archive.save(archive.load(source), path, created=CREATED, durable=False)


def copied(sizes: Sizes, path: Path) -> None:
    planned(sizes, source := path.with_name("source.h5"))
    archive.tools.copy(source, path, durable=False)


def copied_by_command(sizes: Sizes, path: Path) -> None:
    planned(sizes, source := path.with_name("source.h5"))
    command = [sys.executable, "-m", "archive", "cp", str(source), str(path)]
    subprocess.run(command, check=True, env=child_environment(), stdout=subprocess.DEVNULL)


WAYS: list[Callable[[Sizes, Path], None]] = [
    added,
    in_pieces,
    consumed,
    edited,
    edited_unmapped,
    edited_by_tool,
    loaded,
    copied,
    copied_by_command,
]


def same(path: Path, other: Path) -> bool:
    """Compare two files piece by piece: a failure must not print them."""
    if path.stat().st_size != other.stat().st_size:
        return False
    one, two = (np.memmap(file, np.uint8, "r") for file in (path, other))
    step = 1 << 24
    return all(np.array_equal(one[at : at + step], two[at : at + step]) for at in range(0, len(one), step))


@pytest.mark.parametrize("write", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    "sizes", [SIZES, pytest.param(SIZES + LARGE_SIZES, marks=pytest.mark.slow)], ids=["small", "large"]
)
def test_equal_bytes(sizes: Sizes, write: Callable[[Sizes, Path], None], tmp_path: Path) -> None:
    planned(sizes, tmp_path / "planned.h5")
    write(sizes, tmp_path / "other.h5")
    assert same(tmp_path / "planned.h5", tmp_path / "other.h5")
    assert archive.verify(tmp_path / "other.h5").ok


def test_an_iterator(tmp_path: Path) -> None:
    arrays = arrays_of(SIZES)
    for name, given in (("planned", arrays), ("streamed", iter(list(arrays.items())))):
        archive.save(given, tmp_path / name, created=CREATED, metrics=METRICS, configs=CONFIGS)
    assert same(tmp_path / "planned", tmp_path / "streamed")


@pytest.mark.parametrize(
    "sizes", [SIZES, pytest.param(SIZES + LARGE_SIZES, marks=pytest.mark.slow)], ids=["small", "large"]
)
def test_through_s3(sizes: Sizes, server: S3Server, tmp_path: Path) -> None:
    options = server.options()
    name = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    planned(sizes, tmp_path / "planned.h5")
    archive.save(records_of(sizes), f"{name}-saved.h5", created=CREATED, storage_options=options)
    archive.tools.copy(tmp_path / "planned.h5", f"{name}-copied.h5", out_options=options)
    with archive.open(f"{name}-copied.h5", storage_options=options) as saved:
        archive.save(saved.records, f"{name}-edited.h5", created=CREATED, storage_options=options)
    for way in ("saved", "copied", "edited"):
        archive.tools.copy(f"{name}-{way}.h5", tmp_path / way, storage_options=options)
        assert same(tmp_path / "planned.h5", tmp_path / way), way
        server.client.delete_object(Bucket=BUCKET, Key=f"{name}-{way}.h5".split("/", 3)[3])


def test_ties(tmp_path: Path) -> None:
    """Arrays in memory are tied where all of them are there at once; those of an archive wherever they go."""
    arrays = arrays_of(SIZES)
    arrays["tied"] = arrays["rows"]
    archive.save(arrays, tmp_path / "planned.h5", created=CREATED)
    with archive.open(tmp_path / "planned.h5") as saved:
        stored = saved.records.parameters_records["model"]
        loaded = archive.load(tmp_path / "planned.h5")
        archive.save(stored, tmp_path / "edited", created=CREATED)
        archive.save(iter(list(stored.items())), tmp_path / "streamed", created=CREATED)
        archive.save(loaded, tmp_path / "loaded", created=CREATED)
        with archive.create(tmp_path / "added", created=CREATED) as writer:
            for key, array in stored.items():
                writer.add("model", key, array)
    archive.tools.copy(tmp_path / "planned.h5", tmp_path / "copied")
    archive.save(arrays, tmp_path / "consumed", created=CREATED, keep_input=False)
    for way in ("edited", "streamed", "added", "loaded", "copied", "consumed"):
        assert same(tmp_path / "planned.h5", tmp_path / way), way


CONSUMING = """
import sys
from pathlib import Path
import archive
from tests.acceptance.test_equal_bytes import CREATED, arrays_of, deadly
archive.save(deadly(arrays_of({sizes!r})), Path(sys.argv[1]), created=CREATED, keep_input=False)
"""


def deadly(arrays: dict[str, NDArray]) -> Iterator[tuple[str, NDArray]]:
    """Yield all arrays, then die by SIGKILL."""
    yield from arrays.items()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "sizes", [SIZES, pytest.param(SIZES + LARGE_SIZES, marks=pytest.mark.slow)], ids=["small", "large"]
)
def test_recovered(sizes: Sizes, tmp_path: Path) -> None:
    archive.save(arrays_of(sizes), tmp_path / "planned.h5", created=CREATED)
    command = [sys.executable, "-c", CONSUMING.format(sizes=sizes), str(tmp_path / "a.h5")]
    done = subprocess.run(command, env=child_environment(), check=False)
    assert done.returncode == -9
    arrived = archive.recover(tmp_path / "a.h5.partial")
    archive.save(arrived, tmp_path / "again.h5", created=CREATED)
    assert same(tmp_path / "planned.h5", tmp_path / "again.h5")
