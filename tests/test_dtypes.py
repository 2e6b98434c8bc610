"""Names of element types."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
import threading
import time
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from archive.dtypes import (
    ML_DTYPES,
    dtype_name,
    is_ml_dtype,
    long_name,
    npy_dtype,
    parse_dtype,
    parse_literal,
)
from archive.errors import UnsupportedDtypeError
from archive.npy import npy_header, split_npy

DTYPES = hnp.scalar_dtypes() | hnp.array_dtypes(
    subtype_strategy=hnp.scalar_dtypes() | hnp.array_dtypes(max_size=2), max_size=3
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)


@pytest.mark.parametrize("name", sorted(name for name in ML_DTYPES if hasattr(ml_dtypes, name)))
def test_ml_types_travel_as_void(name: str) -> None:
    dtype = parse_dtype(name)
    assert is_ml_dtype(dtype)
    assert dtype_name(dtype) == name
    array = np.zeros(3, dtype)
    assert npy_dtype(dtype) == np.dtype(f"V{dtype.itemsize}")
    data = npy_header(dtype, (3,)) + array.tobytes()
    assert np.load(io.BytesIO(data)).dtype == npy_dtype(dtype)
    assert split_npy(data).shape == (3,)


@given(DTYPES)
def test_names_come_back(dtype: np.dtype[Any]) -> None:
    assert parse_dtype(dtype_name(dtype)) == dtype


NO_TYPES = [
    *("", "float17", "O", "object", "|O", "[('a', 'O')]", "('<f4'", "[", "{", "[1]", "{'names': 1}"),
    *("[('a', '<f4')" * 100, "[" * 5000, "__import__('os')", "[__import__('os')]", "T", "S" + "9" * 11),
    *("[('a', '<f4'), ('a', '<f4')]", "x" * (1 << 20), "\ud800", "[('a', 'M8[xx]')]", "(2147483648,)f8"),
    # numpy divides by the multiple: these kill the process
    *("M8[0ns]", "<M8[+0s]", "m8[ 0s]", "M8[s/0]", "datetime64[7s/0]", "M8[s/4294967296]", "M8[-1s]"),
    *("f4,M8[s/0]", "[('a', 'M8[s/0]')]", "[('a', [('b', '<m8[0s]', (2,))])]", "('M8[s/0]', (2,))"),
    *("{'names': ['a'], 'formats': ['M8[s/0]']}", "{'a': ('M8[0s]', 0)}"),
    # numpy 1 reads these modulo 2**32, or as less than nothing
    *("S4294967297", "U536870912", "<U1073741825", "V2147483648", "i4294967300", "f4,V4294967300"),
    *("|S-5", "V-1", "<U-1", "('V4294967300', (2,))", "[('a', '<f4'), ('b', '|V4294967300')]"),
]


@pytest.mark.parametrize("text", NO_TYPES, ids=range(len(NO_TYPES)))
def test_what_names_no_type(text: str) -> None:
    with pytest.raises(UnsupportedDtypeError):
        parse_dtype(text)


@pytest.mark.parametrize("name", ["bf16", "fp16", "fp32", "fp64"])
def test_short_names_are_for_callers_only(name: str) -> None:
    assert parse_dtype(long_name(name)).itemsize == int(name[2:]) // 8
    assert long_name(f"torch.{name}") == long_name(name)
    with pytest.raises(UnsupportedDtypeError):
        parse_dtype(name)


CHAINS = ["1+" * 60_000 + "1", "a" + ".a" * 60_000, "a" + "()" * 60_000, "a" + "[0]" * 40_000]


@pytest.mark.parametrize("chain", CHAINS, ids=["sum", "attributes", "calls", "subscripts"])
def test_a_small_stack_is_enough_for_a_long_text(chain: str) -> None:
    """In Python 3.10 the parser nests as deep as the operators are many."""
    program = (
        "import sys, threading; from archive.dtypes import *; from archive.errors import *\n"
        "def parse():\n"
        "    try: parse_dtype(sys.stdin.read())\n"
        "    except UnsupportedDtypeError: print('refused')\n"
        "threading.stack_size(256 << 10)\n"
        "thread = threading.Thread(target=parse); thread.start(); thread.join()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=f"[{chain}]", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


ODD_NAMES = ["a.b-c", "f(x)[0]", "#", "'", '"', "\\", "f'", "\\'[", "\n'", "a\tb", "\u00e9", "x" * 300]


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_names_of_members_may_be_anything(name: str) -> None:
    dtype = np.dtype([(name, "<f4"), ("b", "<i4", (2,))])
    assert parse_dtype(dtype_name(dtype)) == dtype


def test_threads_may_parse_at_once() -> None:
    """Python 3.11 counts the depth of the trees of all threads together: `ast.literal_eval` may fail."""
    failed: list[Exception] = []

    def give_way(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)  # another thread goes on in the middle of a tree

    def work() -> None:
        try:
            for _ in range(50):
                parse_literal("{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4, 5), }")
        except SystemError as error:
            failed.append(error)

    before = gc.get_threshold()
    gc.callbacks.append(give_way)
    gc.set_threshold(3, 2, 2)
    try:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(give_way)
    assert not failed
