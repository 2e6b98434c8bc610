from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.interop.flower.parameternames import (
    ParameterNamesError,
    named_parameters,
    parameter_names,
    plain_parameters,
)
from archive.interop.flower.strategyvalues import parameter_array
from archive.packers import (
    ParameterPackerAdaptiveConstraint,
    ParameterPackerWithClippingBit,
    ParameterPackerWithControlVariates,
    ParameterPackerWithLayerNames,
    SparseCooParameterPacker,
)

NAMES = ["fc.weight", "bn.running_mean", "bn.num_batches_tracked", "fc.bias"]
WEIGHTS = [
    np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
    np.zeros(2, "f8"),
    np.array(7),
    np.ones(2, ">f4"),
]


def sparse() -> list[Any]:
    packer = SparseCooParameterPacker()
    found = [packer.extract_coo_info_from_dense(np.array([[0, 5], [0, 7]], np.float32)) for _ in range(2)]
    values, indices, shapes = (list(part) for part in zip(*found, strict=True))
    return packer.pack_parameters(values, (indices, shapes, ["model", "names"]))


PACKED: dict[str, tuple[list[Any], Any, list[str]]] = {
    "names only": (WEIGHTS, None, ["model"]),
    "control variates": (
        [*WEIGHTS, np.ones((2, 3), "f4"), np.ones(2)],
        ParameterPackerWithControlVariates(4),
        ["model", "control_variates"],
    ),
    "clipping bound": (
        [*WEIGHTS, np.array([0.1])],
        ParameterPackerWithClippingBit(),
        ["model", "clipping_bound"],
    ),
    "penalty weight": (
        [*WEIGHTS, np.array(0.1)],
        ParameterPackerAdaptiveConstraint(),
        ["model", "drift_penalty_weight"],
    ),
    "layer names": (
        [*WEIGHTS[:2], np.array(["fc.weight", "fc.weight"])],
        ParameterPackerWithLayerNames(),
        ["model", "names"],
    ),
    "model alone, before a round": (WEIGHTS, ParameterPackerWithLayerNames(), ["model"]),
    "sparse": (sparse(), SparseCooParameterPacker(), ["model.model", "model.names~2", "model.names"]),
}


def arrays_of(elements: list[Any]) -> list[archive.Array]:
    return [archive.Array(np.asarray(found)) for found in elements]


@pytest.mark.parametrize("what", PACKED)
def test_a_list_comes_back_byte_for_byte_from_an_archive(what: str, tmp_path: Path) -> None:
    elements, packer, expected = PACKED[what]
    arrays = arrays_of(elements)
    records = named_parameters(arrays, NAMES, packer)
    assert list(records) == expected
    if "model" in records and what != "layer names":
        assert list(records["model"]) == NAMES
    archive.save(records, tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5") as saved:
        found: Any = saved.records
        again = plain_parameters(found)
        assert [array.data for array in again] == [array.data for array in arrays]


def test_variates_have_the_names_of_the_weights_that_are_trained() -> None:
    elements, packer, _ = PACKED["control variates"]
    records = named_parameters(arrays_of(elements), NAMES, packer)
    assert list(records["control_variates"]) == ["fc.weight", "fc.bias"]


def test_bytes_that_numpy_would_write_in_another_way_are_kept() -> None:
    header = archive.Array(np.zeros(3)).data
    odd = header[:6] + b"\x02\x00" + (len(header[10:]) - 24 + 62).to_bytes(4, "little") + header[10:-24]
    odd = odd.rstrip(b"\n") + b" " * 62 + b"\n" + bytes(24)
    tensors = [parameter_array(odd, "numpy.ndarray"), archive.Array(np.array(0.5))]
    records = named_parameters(tensors, ["w"], ParameterPackerWithClippingBit())
    assert list(records) == ["model", "clipping_bound", "model.bytes"]
    assert [array.data for array in plain_parameters(records)] == [odd, tensors[1].data]


def test_tensors_that_are_no_arrays_have_names_too() -> None:
    tensors = [parameter_array(b"\x00pickled", "torch")]
    records = named_parameters(tensors, ["w"])
    assert plain_parameters(records)[0].data == b"\x00pickled"
    with pytest.raises(ParameterNamesError, match="did not pack these 1 arrays"):
        named_parameters(tensors, None, ParameterPackerWithClippingBit())


def test_names_are_of_a_list_a_state_dict_or_a_record() -> None:
    record = archive.ArrayRecord({"a": archive.Array(np.zeros(1))})
    assert [parameter_names(given) for given in (["a"], ("a",), {"a": 1}, record)] == [["a"]] * 4
    assert parameter_names(None) is None
    for wrong in ("ab", [1], [], 3):
        with pytest.raises(ParameterNamesError, match="names must be"):
            parameter_names(wrong)  # type: ignore[arg-type]


def test_a_list_of_another_length_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ParameterNamesError, match=r"4 names for 3 arrays; give the names in the order"):
        named_parameters(arrays_of(WEIGHTS[:3]), NAMES)
    elements, packer, _ = PACKED["control variates"]
    with pytest.raises(ParameterNamesError, match=r"did not pack these 6 arrays: .*found 2 names for 4"):
        named_parameters(arrays_of(elements), NAMES[:2], packer)


def test_a_packer_of_another_package_is_an_error_that_names_ours() -> None:
    class ParameterPackerWithClippingBit:  # as FL4Health calls it
        pass

    with pytest.raises(
        ParameterNamesError, match=r"one of archive\.packers, not ParameterPackerWithClippingBit; FL4Health"
    ):
        named_parameters([], None, ParameterPackerWithClippingBit())


def test_other_records_are_no_parameters() -> None:
    plain = archive.ArrayRecord({"a": archive.Array(np.zeros(1))})
    with pytest.raises(ParameterNamesError, match="records of 0 packers"):
        plain_parameters({"model": plain})
    named: Any = named_parameters(arrays_of(WEIGHTS), NAMES)
    assert plain_parameters({"strategy": plain, **named})[0].data == arrays_of(WEIGHTS)[0].data
    named["model"].attributes["packer"] = "Unheard"
    with pytest.raises(ParameterNamesError, match="not records of parameters"):
        plain_parameters(named)
