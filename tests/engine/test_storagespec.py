"""How arrays and values are stored: what HDF5 cannot show is shown as bytes."""

from __future__ import annotations

import numpy as np
import pytest

from archive.engine.storagespec import plain_spec, stored_value_spec, text_spec
from archive.hdf5.datatypes import UINT8

BEYOND_HDF5 = 1 << 32
"""One byte more than the size field of an HDF5 datatype holds."""


def test_text_too_wide_for_hdf5_is_shown_as_bytes() -> None:
    # a byte repeated, so that no memory is needed
    value = stored_value_spec("str", np.broadcast_to(np.uint8(65), BEYOND_HDF5))
    assert (value.datatype, value.dims, value.nbytes) == (UINT8, (BEYOND_HDF5,), BEYOND_HDF5)
    array = text_spec(np.dtype("U8"), (2,), False, BEYOND_HDF5)
    assert (array.datatype, array.dims) == (UINT8, (2 * BEYOND_HDF5,))
    assert stored_value_spec("str", np.full(9, 65, np.uint8)).dims == ()


def test_errors_are_builtin_as_no_record_is_known() -> None:
    with pytest.raises(TypeError, match="holds Python objects") as caught:
        plain_spec(np.dtype(object), (1,), False)
    assert type(caught.value) is TypeError
    with pytest.raises(ValueError, match="more bytes than a file may hold"):
        plain_spec(np.dtype("u1"), ((1 << 62) + 1,), False)
