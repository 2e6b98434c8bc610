"""The writer: what a sink is given, in which order, and from whose memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.engine.attributes import encode_record
from archive.engine.write.inputs import gather
from archive.engine.write.plan import Plan, Preamble, make_plan
from archive.engine.write.writer import ArrayStream, write_plan
from archive.format.constants import KIND_METRICS, MIN_SEGMENT_BYTES
from archive.format.index import RecordName
from archive.owner import Owner
from archive.storage.protocols import Sink
from archive.tuning import PIECE_BYTES
from tests.acceptance.samples import CREATED, NDArray

TYPES = ["f8", "c8", "c16", "S5", "?", "f2", ">f4", "M8[s]", "<U3", "i1"]
SMALL = {f"w{number}": np.full(number + 1, number, "f4") for number in range(20)}
LARGE = {
    "piece": np.arange(PIECE_BYTES, dtype="u1"),
    **SMALL,
    "more": np.arange(PIECE_BYTES + 1, dtype="u1"),
    "none": np.empty(0),
    "segments": np.arange(2 * MIN_SEGMENT_BYTES // 8 + 1),
    "tied": SMALL["w3"],
    "segment": np.arange(MIN_SEGMENT_BYTES // 8),
    "late": np.array(5),
}


class Recorder(Sink):
    """A sink that keeps what it was given, and where. Nothing but writing is asked of it."""

    path = "recorded"
    temporary = ""

    def __init__(
        self, nbytes: int, *, any_order: bool = False, arrays: dict[str, NDArray] | None = None
    ) -> None:
        self.owner = Owner()
        self.any_order = any_order
        self.content = bytearray(nbytes)
        self.written: list[tuple[int, int]] = []
        self.pushed = 0
        self._arrays = list((arrays or {}).values())

    def write(self, buffer: Any, offset: int) -> None:
        view = memoryview(buffer)
        assert not any(np.may_share_memory(np.frombuffer(view, "u1"), array) for array in self._arrays)
        self.content[offset : offset + len(view)] = view
        self.written.append((offset, offset + len(view)))

    def push_to(self, end: int) -> None:
        assert self.covers(end)
        self.pushed = max(self.pushed, end)

    def _not_asked(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    reserve = reserve_if_possible = truncate = copy = read_into = publish = discard = _not_asked

    def covers(self, end: int) -> bool:
        """Tell whether everything before an offset was written, once."""
        position = 0
        for start, stop in sorted(self.written):
            if position >= end:
                break
            assert start == position, "a gap, or bytes that were written twice"
            position = stop
        return position >= end


def plan_of(arrays: dict[str, NDArray]) -> Plan:
    metrics = RecordName(KIND_METRICS, "metrics")
    values = {metrics: encode_record(metrics, {"loss": 0.5})}
    return make_plan(gather(arrays, "model", {"loss": 0.5}, None), Preamble("recordset", CREATED), values)


@pytest.mark.parametrize("any_order", [True, False])
@pytest.mark.parametrize("arrays", [SMALL, LARGE], ids=["small", "large"])
def test_every_byte_is_written_once_from_private_memory(
    tmp_path: Path, any_order: bool, arrays: dict[str, NDArray]
) -> None:
    plan = plan_of(arrays)
    sink = Recorder(plan.file_bytes, any_order=any_order, arrays=arrays)
    seen: list[tuple[int, int]] = []
    write_plan(plan, sink, lambda done, total: seen.append((done, total)))
    assert sink.covers(plan.file_bytes)
    assert sink.pushed == seen[-1][0] == plan.file_bytes
    assert {total for _, total in seen} == {plan.file_bytes}
    assert any_order or sink.written == sorted(sink.written)
    (tmp_path / "a.h5").write_bytes(sink.content)
    assert archive.verify(tmp_path / "a.h5").ok
    loaded = archive.load(tmp_path / "a.h5").array_records["model"]
    assert all(np.array_equal(loaded[key].numpy(), array) for key, array in arrays.items())


def test_a_small_archive_is_one_write() -> None:
    plan = plan_of(SMALL)
    sink = Recorder(plan.file_bytes, any_order=True)
    write_plan(plan, sink)
    assert sink.written == [(0, plan.file_bytes)]


@pytest.mark.parametrize("any_order", [True, False])
def test_rows_land_in_order_after_their_last_byte(any_order: bool) -> None:
    plan = plan_of(LARGE)
    sink = Recorder(plan.file_bytes, any_order=any_order)
    written: list[int] = []

    def land(rows: list[int], digests: list[bytes]) -> None:
        stored = plan.schema.rows.tolist()
        last = max((row for row in rows if row in stored), default=0)
        assert sink.covers(int(plan.schema.offset[last]) + plan.spec(last).nbytes)
        written.extend(rows)
        assert len(digests) >= sum(plan.spec(row).segments for row in written if row in stored)

    write_plan(plan, sink, consumed=land)
    assert written == list(range(len(plan.table.keys)))
    assert plan.table.sources == [None] * len(plan.table.keys)


def test_memory_is_the_callers_again_when_a_row_was_put() -> None:
    buffer = np.zeros(PIECE_BYTES + 9, "u1")
    sink = Recorder(4 * len(buffer))
    stream = ArrayStream(sink)
    wanted = bytearray()
    for number, nbytes in enumerate([9, 700, len(buffer), PIECE_BYTES, 1]):
        buffer[:] = number + 1
        stream.put(number, len(wanted), buffer[:nbytes], nbytes)
        wanted += bytes([number + 1]) * nbytes
        buffer[:] = 0
    stream.flush(len(wanted) + 50)
    assert sink.content[: len(wanted) + 50] == wanted + bytes(50)


@pytest.mark.parametrize("dtype", TYPES)
def test_arrays_of_every_type_are_cut(tmp_path: Path, dtype: str) -> None:
    random = np.random.default_rng(8)
    arrays = {"scalar": np.zeros((), dtype)}
    for number, size in enumerate([1, 700, 70_000, 3, 600_000, 11]):
        arrays[f"a{number}"] = random.integers(0, 100, size).astype("i8").astype(dtype)
    arrays["turned"] = np.asfortranarray(random.integers(0, 100, (600, 700)).astype("i8").astype(dtype))
    archive.save(arrays, tmp_path / "a.h5", durable=False)
    assert archive.verify(tmp_path / "a.h5").ok
    loaded = archive.load(tmp_path / "a.h5").array_records["model"]
    assert all(np.array_equal(loaded[key].numpy(), array) for key, array in arrays.items())
