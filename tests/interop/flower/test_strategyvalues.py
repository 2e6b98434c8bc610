"""Flower's Parameters as arrays, without flwr."""

import numpy as np
import pytest

from archive.interop.flower.strategyvalues import parameter_array
from archive.records import Array


@pytest.mark.parametrize("data", [b"", b"PK\3\4 of np.savez", Array(np.zeros(3)).data + b"more"])
def test_parameters_that_are_no_npy_are_kept_as_they_are(data: bytes) -> None:
    array = parameter_array(data, "numpy.ndarray")
    assert (array.data, array.stype, array.shape) == (data, "numpy.ndarray", (len(data),))
