"""Hypothesis strategies: records of every kind, with every element type and odd name.

Needs hypothesis, which ``pip install "fedarchive[testing]"`` brings::

    from hypothesis import given
    from archive.testing.strategies import records


    @given(records())
    def test_my_program_takes_any_records(records): ...
"""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import ml_dtypes
import numpy as np

import archive
from archive.dtypes import ML_DTYPES, NDArray

__all__ = ["arrays", "configs", "dtypes", "metrics", "names", "records"]

DType = np.dtype[Any]
ODD_NAMES = (
    *("", ".", "..", "/", "a/b", "../../etc/passwd", "/etc/passwd", "a\0b", "%", "%2F", "a%2Fb", "..%2F"),
    *(
        "\u00e9",
        "e\u0301",
        "\u4e2d\u6587",
        "\U0001f600",
        " ",
        "\n",
        "a" * 3000,
        "CON",
        "model",
        "w",
        "\ufeff",
    ),
)
"""Names that programs, file systems or HDF5 stumble over; two are one another's NFC and NFD."""
_TEXT = st.characters(exclude_categories=["Cs"])
_INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
_INTEGERS = _INT64 | st.integers(1 << 63, (1 << 64) - 1)


def names() -> st.SearchStrategy[str]:
    """Draw names of records and keys, odd ones among them."""
    return st.sampled_from(ODD_NAMES) | st.text(_TEXT, max_size=12)


def dtypes() -> st.SearchStrategy[DType]:
    """Draw element types that an archive stores: numbers, times, text, void, structured, machine-learning."""
    scalars = hnp.scalar_dtypes() | st.sampled_from([np.dtype(f"{o}{k}") for o in "<>" for k in ("S3", "U4")])
    small = st.sampled_from(
        [np.dtype(getattr(ml_dtypes, n)) for n in sorted(ML_DTYPES) if hasattr(ml_dtypes, n)]
    )
    members = hnp.array_dtypes(subtype_strategy=scalars, max_size=3, allow_subarrays=True)
    return scalars | small | members | st.sampled_from([np.dtype("V5")])


@st.composite
def arrays(draw: st.DrawFn) -> archive.Array:
    """Draw arrays of any element type, shape and order, and opaque ones."""
    if draw(st.integers(0, 9)) == 9:
        shape = tuple(draw(st.lists(st.integers(0, 1000), max_size=4)))
        stype = draw(st.sampled_from(["torch.tensor", "", "numpy.ndarray", "\u00e9"]))
        return archive.Array(draw(st.text(_TEXT, max_size=9)), shape, stype, draw(st.binary(max_size=60)))
    dtype, shape = draw(dtypes()), draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    nbytes = int(np.prod(shape, dtype=int)) * dtype.itemsize
    # bytes rather than elements: every NaN, every padding, and far less to draw
    data = draw(st.binary(min_size=nbytes, max_size=nbytes)) if nbytes < 300 else bytes(nbytes)
    if dtype.names is not None or dtype.kind in "bUS":
        data = bytes(byte & 1 for byte in data)
    elements: NDArray = np.ndarray(shape, dtype, data)
    order: Any = draw(st.sampled_from(["C", "F"]))
    return archive.Array(np.array(elements, order=order))


def metrics() -> st.SearchStrategy[archive.MetricRecord]:
    """Draw records of numbers and lists of numbers."""
    values = _INTEGERS | st.floats() | st.lists(_INT64, max_size=4) | st.lists(st.floats(), max_size=4)
    return st.dictionaries(names(), values, max_size=4).map(archive.MetricRecord)


def configs() -> st.SearchStrategy[archive.ConfigRecord]:
    """Draw records of every type of value."""
    scalars = (st.booleans(), _INT64, st.floats(), st.text(_TEXT, max_size=20), st.binary(max_size=20))
    values = st.one_of(*scalars, _INTEGERS, *(st.lists(scalar, max_size=4) for scalar in scalars))
    return st.dictionaries(names(), values, max_size=4).map(archive.ConfigRecord)


def records() -> st.SearchStrategy[archive.RecordSet | archive.RecordDict]:
    """Draw containers of records, a few of each kind, each of a few members."""
    model = st.dictionaries(names(), arrays(), max_size=4).map(archive.ArrayRecord)
    kinds = tuple(st.dictionaries(names(), kind, max_size=2) for kind in (model, metrics(), configs()))
    flat = st.dictionaries(names(), model | metrics() | configs(), max_size=4)
    return st.builds(archive.RecordSet, *kinds) | flat.map(archive.RecordDict)
