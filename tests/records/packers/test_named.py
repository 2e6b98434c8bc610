"""Packed lists as records by role, in memory and through an archive: the same bytes come back."""

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import archive
from archive import Array, ArrayRecord, MetricRecord, RecordDict, RecordSet
from archive.packers import (
    ParameterPackerAdaptiveConstraint,
    ParameterPackerWithClippingBit,
    ParameterPackerWithControlVariates,
    ParameterPackerWithLayerNames,
    SparseCooParameterPacker,
)
from archive.records.packers.named import unique_names
from archive.types import Records

Way = Callable[[Any, RecordSet], list[Any]]
extract = SparseCooParameterPacker.extract_coo_info_from_dense
VARIATES, LAYERS, SPARSE = "control_variates", ParameterPackerWithLayerNames(), SparseCooParameterPacker()
CLIPPING, ADAPTIVE = ParameterPackerWithClippingBit(), ParameterPackerAdaptiveConstraint()


def weights() -> list[Any]:
    generator = np.random.default_rng(1)
    return [
        generator.normal(size=(3, 4)).astype("f4"),
        np.array(17),
        np.asfortranarray(generator.normal(size=(3, 2))),
        np.zeros((0, 4), ">f4"),
        np.array([1.5], ml_dtypes.bfloat16),
        np.array([True, False]),
    ]


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def assert_same(found: list[Any], packed: list[Any]) -> None:
    assert [npy(array) for array in found] == [npy(array) for array in packed]
    assert [array.dtype for array in found] == [array.dtype for array in packed]


def in_memory(packer: Any, records: RecordSet) -> list[Any]:
    return packer.from_records(records)


def pickled(packer: Any, records: RecordSet) -> list[Any]:
    return packer.from_records(pickle.loads(pickle.dumps(copy.deepcopy(records), protocol=5)))


def opened(packer: Any, records: Records) -> list[Any]:
    archive.save(records, "packed.h5")
    with archive.open("packed.h5") as a:
        return packer.from_records(a.records)


def loaded(packer: Any, records: RecordSet) -> list[Any]:
    archive.save(records, "packed.h5")
    return packer.from_records(archive.load("packed.h5"))


def saved_again(packer: Any, records: RecordSet) -> list[Any]:
    archive.save(records, "first.h5")
    with archive.open("first.h5") as a:
        return opened(packer, a.records)


@pytest.fixture(params=[in_memory, pickled, opened, loaded, saved_again], ids=lambda way: way.__name__)
def way(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Way:
    monkeypatch.chdir(tmp_path)
    found: Way = request.param
    return found


# Every edge, both ways


@pytest.mark.parametrize("variates", [[], weights()[:1], [np.ones(2, "f2"), np.array(3, "i2")]])
@pytest.mark.parametrize("size", [0, 6])
def test_variates(way: Way, variates: list[Any], size: int) -> None:
    packer = ParameterPackerWithControlVariates(size)
    packed = packer.pack_parameters(weights()[:size], variates)
    assert_same(way(packer, packer.to_records(packed)), packed)


@pytest.mark.parametrize("value", [0.1, 1, True, np.float32(0.1), np.array([0.1]), np.array([1], ">i2")])
@pytest.mark.parametrize(
    ("packer", "role"),
    [
        (CLIPPING, "clipping_bound"),
        (CLIPPING, "clipping_bit"),
        (ADAPTIVE, "drift_penalty_weight"),
        (ADAPTIVE, "train_loss"),
    ],
)
def test_scalar(way: Way, packer: Any, role: str, value: Any) -> None:
    packed = packer.pack_parameters(weights(), value)
    records = packer.to_records(packed, role=role)
    assert list(records) == ["weights", role]
    assert records[role].attributes["role"] == role
    assert_same(way(packer, records), packed)


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["a", "b"],
        ["a", "a", "a~2", "a"],
        ["names", "weights/names", "..", ".", "", "50%"],
        ["層", "é", "a\0b"],
    ],
)
def test_layer_names(way: Way, names: list[str]) -> None:
    packed = LAYERS.pack_parameters((weights() * 2)[: len(names)], names)
    assert_same(way(LAYERS, LAYERS.to_records(packed)), packed)


@pytest.mark.parametrize("names", [np.zeros(0), np.zeros(0, "<U1"), np.zeros(0, "i4")])
def test_layer_names_empty_of_any_type(way: Way, names: Any) -> None:
    assert_same(way(LAYERS, LAYERS.to_records([names])), [names])


def test_layer_names_wider_than_needed(way: Way) -> None:
    packed = [np.ones(2), np.array(["fc"], ">U7")]
    assert_same(way(LAYERS, LAYERS.to_records(packed)), packed)


SPARSE_LISTS = {
    "empty": [np.zeros(0)],
    "one axis": [np.ones(2, "f4"), np.array([[1], [3]]), np.array([4]), np.array(["a"])],
    "nothing stored": [np.ones(0, "f4"), np.zeros((0, 2), "i8"), np.array([4, 4]), np.array(["a"])],
    "axis without length": [np.ones(0), np.zeros((0, 2), "i8"), np.array([0, 4]), np.array(["a"])],
    "C order": [np.ones(2), np.array([[0, 1], [1, 0]]), np.array([2, 2]), np.array(["names"])],
    "int32": [np.ones(1), np.array([[0, 1]], ">i4"), np.array([2, 2], "i4"), np.array(["a"])],
    "unsorted": [np.ones(2), np.array([[1, 1], [0, 0]]), np.array([2, 2]), np.array(["a"])],
    "long axes": [np.ones(1, "f2"), np.array([[2**40, 255]]), np.array([2**41, 256]), np.array(["a"])],
    "bfloat16": [np.ones(1, ml_dtypes.bfloat16), np.array([[0, 1]]), np.array([2, 2]), np.array(["a"])],
    "longest axis": [np.ones(1), np.array([[2**63 - 2]]), np.array([2**63 - 1]), np.array(["a"])],
}


@pytest.mark.parametrize("packed", SPARSE_LISTS.values(), ids=SPARSE_LISTS)
def test_sparse_edges(way: Way, packed: list[Any]) -> None:
    SPARSE.unpack_parameters(packed)
    assert_same(way(SPARSE, SPARSE.to_records(packed)), packed)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i8", "?", "c8", ml_dtypes.bfloat16])
def test_sparse_tensors(way: Way, dtype: Any) -> None:
    generator = np.random.default_rng(2)
    dense = [generator.integers(0, 2, shape).astype(dtype) for shape in [(9,), (4, 300), (3, 2, 2, 5)]]
    parts = [extract(x) for x in dense]
    values, indices, shapes = ([part[n] for part in parts] for n in range(3))
    packed = SPARSE.pack_parameters(values, (indices, shapes, ["fc.weight", "fc.weight", "names"]))
    records = SPARSE.to_records(packed)
    assert list(records) == ["fc.weight", "fc.weight~2", "names~2", "names"]
    assert_same(way(SPARSE, records), packed)


@given(
    st.lists(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_side=3)), max_size=4), st.data()
)
def test_any_lists(arrays: list[Any], data: Any) -> None:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=3).filter(
        lambda s: not s.endswith("\0")
    )
    names = data.draw(st.lists(text, min_size=len(arrays), max_size=len(arrays)))
    size = data.draw(st.integers(0, len(arrays)))
    variates = ParameterPackerWithControlVariates(size)
    assert_same(variates.from_records(variates.to_records(arrays)), arrays)
    named = variates.to_records(arrays, names[:size], variate_names=names[size:])
    assert_same(variates.from_records(named), arrays)
    packed = LAYERS.pack_parameters(arrays, names)
    assert_same(LAYERS.from_records(LAYERS.to_records(packed)), packed)
    packed = CLIPPING.pack_parameters(arrays, data.draw(st.floats() | st.booleans()))
    assert_same(CLIPPING.from_records(CLIPPING.to_records(packed, role="clipping_bit")), packed)


@given(
    st.lists(
        hnp.arrays(
            st.sampled_from(["f4", "i2", "?"]), hnp.array_shapes(max_side=4), elements=st.sampled_from([0, 1])
        ),
        max_size=4,
    ),
    st.lists(st.sampled_from(["a", "names", "a~2", ""]), min_size=4),
)
def test_any_sparse_lists(dense: list[Any], names: list[str]) -> None:
    parts = [extract(x) for x in dense]
    values, indices, shapes = ([part[n] for part in parts] for n in range(3))
    packed = SPARSE.pack_parameters(values, (indices, shapes, names[: len(dense)]))
    assert_same(SPARSE.from_records(SPARSE.to_records(packed)), packed)


# What the records say


def test_attributes_say_packer_version_and_role() -> None:
    packer = ParameterPackerWithControlVariates(1)
    records = packer.to_records([np.ones(1), np.ones(1)])
    assert records.array_records["weights"].attributes == {
        "packer": "ParameterPackerWithControlVariates",
        "packer_version": 1,
        "role": "weights",
        "size_of_model_params": 1,
    }
    assert records.array_records[VARIATES].attributes["role"] == VARIATES


def test_fortran_order_is_said_only_where_there_is_any() -> None:
    packer = ParameterPackerWithControlVariates(2)
    records = packer.to_records([np.ones((2, 2)), np.asfortranarray(np.ones((2, 2)))], ["a", "b"])
    assert records.array_records["weights"].attributes["fortran_order"] == ["b"]
    assert "fortran_order" not in records.array_records[VARIATES].attributes
    records.array_records["weights"].attributes["fortran_order"] = "b"
    with pytest.raises(ValueError, match="but 'b' was found"):
        packer.from_records(records)


def test_names_and_positions() -> None:
    packer = ParameterPackerWithControlVariates(2)
    packed = [np.ones(1)] * 3
    assert list(packer.to_records(packed)["weights"]) == ["000", "001"]
    records = packer.to_records(packed, ["fc.weight", "fc.weight"], variate_names=("fc.weight",))
    assert list(records["weights"]) == ["fc.weight", "fc.weight~2"]
    assert list(records[VARIATES]) == ["fc.weight"]
    many = ParameterPackerWithControlVariates(1001).to_records([np.ones(1)] * 1001)
    assert list(many["weights"])[::1000] == ["0000", "1000"]
    assert list(LAYERS.to_records([np.ones(1), np.array(["fc"])])["weights"]) == ["fc"]


def test_names_nonsense() -> None:
    packer = ParameterPackerWithControlVariates(1)
    packed = [np.ones(1), np.ones(1)]
    with pytest.raises(ValueError, match="weights need a name each: found 2 names for 1 arrays"):
        packer.to_records(packed, ["a", "b"])
    with pytest.raises(ValueError, match="control_variates need a name each: found 0 names"):
        packer.to_records(packed, variate_names=[])
    with pytest.raises(TypeError, match="not str"):
        packer.to_records(packed, "a")
    with pytest.raises(TypeError, match="must be of type"):
        packer.to_records(packed, [1])  # type: ignore[list-item]


def test_unique_names_leave_real_names_alone() -> None:
    assert unique_names(["a", "a", "a~2", "a", "a~2"]) == ["a", "a~3", "a~2", "a~4", "a~2~2"]
    assert unique_names(["x", "x"], reserved=["x"]) == ["x~2", "x~3"]


def test_role_must_be_said() -> None:
    packed = [np.array(0.5)]
    with pytest.raises(TypeError, match="role"):
        CLIPPING.to_records(packed)  # type: ignore[call-arg]
    for packer in (CLIPPING, ADAPTIVE):
        with pytest.raises(ValueError, match="not 'bound'"):
            packer.to_records(packed, role="bound")  # type: ignore[arg-type]


def test_records_do_not_follow_the_packed_list() -> None:
    packed = [np.ones(1), np.array(0.5)]
    records = CLIPPING.to_records(packed, role="clipping_bit")
    packed[0][:] = 9
    assert CLIPPING.from_records(records)[0].tolist() == [1]


def test_unpacked_arrays_are_writable_and_private(way: Way) -> None:
    records = CLIPPING.to_records([np.ones(3), np.array(0.5)], role="clipping_bit")
    found = way(CLIPPING, records)
    found[0][:] = 9
    found[1][...] = 9
    assert way(CLIPPING, records)[0].tolist() == [1, 1, 1]


def test_numpy_scalars_become_0d() -> None:
    packed = [np.float64(3), np.array(0.5)]
    assert_same(CLIPPING.from_records(CLIPPING.to_records(packed, role="clipping_bit")), packed)


# Finding them again


def test_found_by_role_among_others_and_under_other_names() -> None:
    packer = ParameterPackerWithControlVariates(1)
    packed = [np.ones(1), np.zeros(2)]
    made = packer.to_records(packed)
    other = CLIPPING.to_records([np.array(0.5)], role="clipping_bit")
    mixed = RecordDict({"c": made[VARIATES], "w": made["weights"], "m": MetricRecord({"loss": 0.5})})
    mixed["x"], mixed["bit"], mixed["plain"] = other["weights"], other["clipping_bit"], ArrayRecord()
    assert_same(packer.from_records(mixed), packed)
    assert_same(packer.from_records(dict(mixed)), packed)
    assert_same(CLIPPING.from_records(mixed), [np.array(0.5)])


def test_missing_or_double_records() -> None:
    made = CLIPPING.to_records([np.ones(1), np.array(0.5)], role="clipping_bit")
    with pytest.raises(ValueError, match="needs one record of role 'weights'; found none"):
        CLIPPING.from_records(RecordSet())
    with pytest.raises(ValueError, match="'weights'; found none"):
        ADAPTIVE.from_records(made)
    with pytest.raises(ValueError, match="'clipping_bound' or 'clipping_bit'; found 1 of role 'weights'"):
        CLIPPING.from_records({"w": made["weights"]})
    with pytest.raises(ValueError, match="found 2 of role 'weights'"):
        CLIPPING.from_records({"a": made["weights"], "b": made["weights"], "c": made["clipping_bit"]})
    with pytest.raises(TypeError, match="not list"):
        CLIPPING.from_records([])  # type: ignore[arg-type]


def test_another_size_or_version() -> None:
    made = ParameterPackerWithControlVariates(1).to_records([np.ones(1), np.ones(1)])
    with pytest.raises(ValueError, match="is 2, but the records were packed with 1"):
        ParameterPackerWithControlVariates(2).from_records(made)
    made.array_records["weights"].attributes["packer_version"] = 2
    with pytest.raises(ValueError, match="up to version 1, but version 2"):
        ParameterPackerWithControlVariates(1).from_records(made)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("shape", [2]),
        ("shape", "2, 2"),
        ("shape", []),
        ("shape_dtype", "float32"),
        ("indices_dtype", "no such"),
        ("indices_order", "K"),
        ("position", 7),
    ],
)
def test_sparse_attributes_that_contradict_the_arrays(attribute: str, value: Any) -> None:
    values, indices, shape = extract(np.eye(2))
    records = SPARSE.to_records(SPARSE.pack_parameters([values], ([indices], [shape], ["a"])))
    records.array_records["a"].attributes[attribute] = value
    if attribute == "shape" and value == [2]:
        del records["a"]["indices_0"]
    with pytest.raises(ValueError, match="found"):
        SPARSE.from_records(records)


def test_arrays_that_are_not_there_or_no_npy() -> None:
    made = LAYERS.to_records([np.ones(1), np.array(["fc"])])
    layers = made.array_records["weights"]
    layers["fc"] = Array("float64", (1,), "raw", b"12345678")
    with pytest.raises(ValueError, match="but 'raw' was found"):
        LAYERS.from_records(made)
    layers["gc"] = layers.pop("fc")
    with pytest.raises(ValueError, match="no array 'fc'; found gc"):
        LAYERS.from_records(made)


def test_sparse_index_outside_the_shape() -> None:
    for wrong in (-1, 2):
        packed = [np.ones(1), np.array([[0, wrong]]), np.array([2, 2]), np.array(["a"])]
        with pytest.raises(ValueError, match=f"axis 1 must be from 0 to 1, but {wrong} to {wrong}"):
            SPARSE.to_records(packed)
    with pytest.raises(ValueError, match=r"shape \[-2, 2\]"):
        SPARSE.to_records([np.ones(0), np.zeros((0, 2), int), np.array([-2, 2]), np.array(["a"])])


def test_sparse_index_types_are_the_smallest() -> None:
    packed = [np.ones(1), np.array([[0] * 5]), np.array([1, 256, 257, 65537, 2**33]), np.array(["a"])]
    record = SPARSE.to_records(packed).array_records["a"]
    assert [record[f"indices_{axis}"].dtype for axis in range(5)] == [
        "uint8",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
    ]


def test_sparse_takes_a_quarter_of_the_dense_size(tmp_path: Path) -> None:
    dense = np.random.default_rng(3).normal(size=(512, 256, 3, 3)).astype("f4")
    dense[np.abs(dense) < 1.6449] = 0  # leaves 10 %
    values, indices, shape = extract(dense)
    packed = SPARSE.pack_parameters([values], ([indices], [shape], ["conv.weight"]))
    assert 0.098 < values.size / dense.size < 0.102
    archive.save(SPARSE.to_records(packed), str(tmp_path / "sparse.h5"))
    ratio = (tmp_path / "sparse.h5").stat().st_size / dense.nbytes
    assert 0.21 < ratio < 0.24
    assert sum(array.nbytes for array in packed) / dense.nbytes > 0.8
