"""Constants have Flower's values."""

from archive.records import GC_THRESHOLD, SType


def test_values() -> None:
    assert GC_THRESHOLD == 200_000_000
    assert SType.NUMPY == "numpy.ndarray"
