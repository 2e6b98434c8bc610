"""lookup3 against known vectors and an independent C implementation."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numcodecs.jenkins import jenkins_lookup3

from archive.hdf5 import checksum
from archive.hdf5.checksum import lookup3, lookup3_prefix, lookup3_rows, lookup3_spans


@pytest.fixture
def without_numcodecs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numcodecs.jenkins")


@pytest.mark.parametrize(
    ("data", "expected"), [(b"", 0xDEADBEEF), (b"Four score and seven years ago", 0x17770551)]
)
def test_vectors_of_lookup3_c(data: bytes, expected: int) -> None:
    assert lookup3(data) == expected
    assert lookup3_rows(np.frombuffer(data * 2, np.uint8).reshape(2, -1)).tolist() == [expected] * 2


@pytest.mark.usefixtures("without_numcodecs")
@pytest.mark.parametrize("nbytes", [*range(1, 50), 1000, 16_383, 65_535])
def test_pure_python_equals_c(nbytes: int) -> None:
    data = np.random.default_rng(nbytes).integers(0, 256, nbytes, np.uint8).tobytes()
    assert lookup3(data) == jenkins_lookup3(data) & 0xFFFFFFFF


@pytest.mark.parametrize("nbytes", [65_536, 1_000_003])
def test_large_blocks(nbytes: int) -> None:
    data = np.random.default_rng(nbytes).integers(0, 256, nbytes, np.uint8).tobytes()
    assert lookup3(data) == jenkins_lookup3(data) & 0xFFFFFFFF
    assert lookup3(memoryview(data)) == lookup3(data)


@pytest.mark.parametrize("n", [1, 23, 24, 20_000])
def test_spans_of_any_length(n: int) -> None:
    rng = np.random.default_rng(n)
    buffer = rng.integers(0, 256, 5000, np.uint8)
    lengths, starts = rng.integers(0, 90, n), rng.integers(0, 4800, n)
    sums = lookup3_spans(buffer, starts, lengths)
    for row in range(0, n, max(1, n // 200)):
        assert sums[row] == lookup3(buffer[starts[row] : starts[row] + lengths[row]].tobytes())


@pytest.mark.parametrize("n", [3, 40, 9000])
@pytest.mark.parametrize("front", [0, 12, 120])
def test_shared_front(n: int, front: int) -> None:
    rows = np.random.default_rng(n).integers(0, 256, (n, 151), np.uint8)
    rows[:, :front] = rows[0, :front]
    state = np.repeat(np.array([lookup3_prefix(rows[0, :front].tobytes(), 151)], np.uint32).T, n, axis=1)
    buffer = np.concatenate((rows.reshape(-1), np.zeros(16, np.uint8)))
    sums = lookup3_spans(buffer, np.arange(n) * 151 + front, np.full(n, 151 - front), state)
    assert (sums == lookup3_rows(rows)).all()
    assert sums[-1] == jenkins_lookup3(rows[-1].tobytes()) & 0xFFFFFFFF


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes(data: bytes) -> None:
    expected = jenkins_lookup3(data) & 0xFFFFFFFF
    assert lookup3(data) == expected
    assert lookup3_rows(np.tile(np.frombuffer(data, np.uint8), (30, 1))).tolist() == [expected] * 30


def test_prefix_refuses_a_wrong_front() -> None:
    with pytest.raises(ValueError, match="multiple of 12"):
        lookup3_prefix(b"abc", 100)


def test_importing_does_not_load_numcodecs() -> None:
    code = f"import sys, {checksum.__name__}; sys.exit('numcodecs' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
