"""Packers: lists in, the same arrays out, and errors that say what was found."""

import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from archive.packers import (
    ParameterPacker,
    ParameterPackerAdaptiveConstraint,
    ParameterPackerWithClippingBit,
    ParameterPackerWithControlVariates,
    ParameterPackerWithLayerNames,
    SparseCooParameterPacker,
)
from tests.optional import torch

extract = SparseCooParameterPacker.extract_coo_info_from_dense
SCALAR = [ParameterPackerWithClippingBit, ParameterPackerAdaptiveConstraint]
DTYPES = ["f2", "f4", ">f8", "i8", "u1", "?", "c8", ml_dtypes.bfloat16]
ndarrays = hnp.arrays(
    st.sampled_from(["f4", "f8", "i8", "?", ">f4"]), hnp.array_shapes(min_dims=0, max_side=3)
)
weight_lists = st.lists(ndarrays, max_size=5)


def weights() -> list[Any]:
    return [np.ones((2, 3), "f4"), np.array(7), np.zeros((0, 4)), np.ones(1, "f2")]


def is_same(mine: list[Any], others: list[Any]) -> bool:
    return len(mine) == len(others) and all(a is b for a, b in zip(mine, others, strict=True))


def sparse(*dense: Any, names: list[str] | None = None) -> tuple[list[Any], Any]:
    found = [extract(x) for x in dense]
    values, indices, shapes = ([part[n] for part in found] for n in range(3))
    return values, (indices, shapes, names or [f"t{n}" for n in range(len(dense))])


# The base


def test_base_is_abstract_and_subscriptable() -> None:
    assert ParameterPacker[int] is not None
    with pytest.raises(TypeError, match="abstract"):
        ParameterPacker()  # type: ignore[abstract]
    for packer in (*SCALAR, ParameterPackerWithLayerNames, SparseCooParameterPacker):
        assert issubclass(packer, ParameterPacker)


@pytest.mark.parametrize(
    "packer",
    [ParameterPackerWithControlVariates(3), *(kind() for kind in SCALAR), SparseCooParameterPacker()],
)
def test_packers_pickle(packer: Any) -> None:
    clone = pickle.loads(pickle.dumps(packer))
    assert type(clone) is type(packer)
    assert clone.__dict__ == packer.__dict__


# Control variates


@given(weight_lists, weight_lists)
def test_variates_are_the_same_arrays_in_new_lists(mine: list[Any], variates: list[Any]) -> None:
    packer = ParameterPackerWithControlVariates(size_of_model_params=len(mine))
    before = (list(mine), list(variates))
    packed = packer.pack_parameters(model_weights=mine, additional_parameters=variates)
    assert packed is not mine
    assert is_same(packed, mine + variates)
    found = packer.unpack_parameters(packed_parameters=packed)
    assert type(found) is tuple
    assert is_same(found[0], before[0])
    assert is_same(found[1], before[1])
    assert is_same(mine, before[0])


def test_variates_no_weights_or_no_variates() -> None:
    assert ParameterPackerWithControlVariates(0).unpack_parameters([]) == ([], [])
    packed = weights()
    found, rest = ParameterPackerWithControlVariates(4).unpack_parameters(packed)
    assert is_same(found, packed)
    assert rest == []


def test_variates_size_beyond_the_list() -> None:
    packer = ParameterPackerWithControlVariates(5)
    with pytest.raises(ValueError, match="is 5, but packed_parameters has only 4 arrays"):
        packer.unpack_parameters(weights())
    with pytest.raises(ValueError, match="is 5, but 4 weights"):
        packer.pack_parameters(weights(), [])


def test_variates_size_must_be_a_count() -> None:
    assert ParameterPackerWithControlVariates(np.int64(2)).size_of_model_params == 2
    with pytest.raises(ValueError, match="-1 was found"):
        ParameterPackerWithControlVariates(-1)
    for wrong in (1.5, "1", None):
        with pytest.raises(TypeError):
            ParameterPackerWithControlVariates(wrong)  # type: ignore[arg-type]


# One number


@pytest.mark.parametrize("kind", SCALAR)
@pytest.mark.parametrize("value", [0.5, 3, True, np.float32(0.1), np.int8(3), np.array([0.1]), float("nan")])
def test_scalar_is_packed_as_numpy_makes_it(kind: Any, value: Any) -> None:
    mine = weights()
    packed = kind().pack_parameters(mine, value)
    assert is_same(packed[:-1], mine)
    assert len(mine) == 4
    want = np.array(value)
    assert (packed[-1].dtype, packed[-1].shape) == (want.dtype, want.shape)
    assert packed[-1].tobytes() == want.tobytes()


@pytest.mark.parametrize(
    ("last", "bit"),
    [
        (np.array(0.5), 0.5),
        (np.array([0.5]), 0.5),
        (np.array(True), True),
        (np.array(3, "i4"), 3),
        (np.array(0.5, "f4"), 0.5),
        (np.float64(0.5), 0.5),
        (np.array(0.5, ml_dtypes.bfloat16), 0.5),
    ],
)
def test_scalar_is_unpacked_as_a_python_number(last: Any, bit: Any) -> None:
    mine = weights()
    found, value = ParameterPackerWithClippingBit().unpack_parameters([*mine, last])
    assert is_same(found, mine)
    assert (type(value), value) == (type(bit), bit)
    found, value = ParameterPackerAdaptiveConstraint().unpack_parameters([*mine, last])
    assert is_same(found, mine)
    assert (type(value), value) == (float, float(bit))


def test_scalar_keywords() -> None:
    assert (
        len(ParameterPackerWithClippingBit().pack_parameters(model_weights=[], additional_parameters=1)) == 1
    )
    packer = ParameterPackerAdaptiveConstraint()
    assert len(packer.pack_parameters(model_weights=[], extra_adaptive_variable=1)) == 1


@pytest.mark.parametrize("kind", SCALAR)
def test_scalar_nonsense(kind: Any) -> None:
    packer = kind()
    with pytest.raises(ValueError, match="is empty"):
        packer.unpack_parameters([])
    with pytest.raises(ValueError, match=r"shape \(2, 3\)|\(2, 3\) was found"):
        packer.unpack_parameters([np.ones((2, 3))])
    with pytest.raises(TypeError, match="<U1 was found"):
        packer.unpack_parameters([np.ones(2), np.array(["a"])])
    with pytest.raises(TypeError, match="complex128 was found"):
        packer.pack_parameters([], 1j)
    wrongs: list[Any] = [None, "0.5", [0.5], {}]
    for wrong in wrongs:
        with pytest.raises(TypeError):
            packer.pack_parameters([], wrong)


# Names


@given(st.lists(st.tuples(ndarrays, st.text(max_size=4).filter(lambda name: not name.endswith("\0")))))
def test_names_come_back(pairs: list[Any]) -> None:
    mine, names = [p[0] for p in pairs], [p[1] for p in pairs]
    packer = ParameterPackerWithLayerNames()
    packed = packer.pack_parameters(model_weights=mine, weights_names=names)
    assert is_same(packed[:-1], mine)
    assert packed[-1].dtype == np.array(names).dtype
    found, found_names = packer.unpack_parameters(packed)
    assert is_same(found, mine)
    assert found_names == names


def test_names_may_be_a_tuple() -> None:
    weights = [np.ones(1), np.ones(2)]
    packed = ParameterPackerWithLayerNames().pack_parameters(weights, ("a", "fc"))
    assert packed[-1].tolist() == ["a", "fc"]
    info: Any = ([np.zeros((1, 1), "i8")], [np.array([3])], ("fc",))
    packed = SparseCooParameterPacker().pack_parameters([np.ones(1)], info)
    assert packed[-1].tolist() == ["fc"]


def test_names_of_big_endian_text_come_back() -> None:
    layers, sparse = ParameterPackerWithLayerNames(), SparseCooParameterPacker()
    packed = [np.ones(1), np.ones(2), np.array(["a", "fc"], ">U2")]
    assert layers.unpack_parameters(packed)[1] == ["a", "fc"]
    assert layers.from_records(layers.to_records(packed))[-1].dtype == packed[-1].dtype
    packed = [np.ones(1), np.zeros((1, 1), "i8"), np.array([3]), np.array(["fc"], ">U2")]
    assert sparse.unpack_parameters(packed)[1][2] == ["fc"]
    assert sparse.from_records(sparse.to_records(packed))[-1].dtype == packed[-1].dtype


def test_names_none_is_float64() -> None:
    packer = ParameterPackerWithLayerNames()
    (names,) = packer.pack_parameters([], [])
    assert (names.dtype, names.shape) == (np.dtype("f8"), (0,))
    assert packer.unpack_parameters([names]) == ([], [])


def test_names_nonsense() -> None:
    packer = ParameterPackerWithLayerNames()
    with pytest.raises(ValueError, match="found 1 names, 2 arrays"):
        packer.pack_parameters([np.ones(1), np.ones(1)], ["a"])
    with pytest.raises(ValueError, match="found 1 names, 2 arrays"):
        packer.unpack_parameters([np.ones(1), np.ones(1), np.array(["a"])])
    with pytest.raises(ValueError, match="NUL"):
        packer.pack_parameters([np.ones(1)], ["a\0"])
    with pytest.raises(TypeError, match="int at position 0"):
        packer.pack_parameters([np.ones(1)], [1])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="not str"):
        packer.pack_parameters([np.ones(1)], "a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="float64 was found"):
        packer.unpack_parameters([np.ones(1), np.ones(1)])
    with pytest.raises(ValueError, match=r"shape \(\)"):
        packer.unpack_parameters([np.ones(1), np.array("a")])
    with pytest.raises(ValueError, match="is empty"):
        packer.unpack_parameters([])


# Sparse tensors


@given(
    st.lists(
        hnp.arrays("f4", hnp.array_shapes(max_side=4), elements=st.sampled_from([0, 0, 1.5])), max_size=4
    )
)
def test_sparse_comes_back(dense: list[Any]) -> None:
    values, info = sparse(*dense)
    packer = SparseCooParameterPacker()
    packed = packer.pack_parameters(model_parameters=values, additional_parameters=info)
    assert len(packed) == 3 * len(dense) + 1
    found, (indices, shapes, names) = packer.unpack_parameters(packed)
    assert is_same(found, values)
    assert is_same(indices, info[0])
    assert is_same(shapes, info[1])
    assert names == info[2]


@pytest.mark.parametrize("dtype", DTYPES)
def test_extract_keeps_the_dtype_and_c_order(dtype: Any) -> None:
    dense = np.array([[0, 3, 0], [1, 0, 2]]).astype(dtype)
    for layout in (dense, np.asfortranarray(dense), dense[::-1][::-1]):
        values, indices, shape = extract(layout)
        assert values.dtype == dense.dtype
        assert values.tolist() == dense[dense != 0].tolist()
        assert (indices.dtype, indices.tolist()) == (np.dtype("i8"), [[0, 1], [1, 0], [1, 2]])
        assert indices.flags.f_contiguous
        assert not indices.flags.c_contiguous
        assert (shape.dtype, shape.tolist()) == (np.dtype("i8"), [2, 3])


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", ml_dtypes.bfloat16])
def test_extract_signed_zeros_and_nan(dtype: Any) -> None:
    dense = np.array([-0.0, 0.0, np.nan, np.inf, -np.inf, 1]).astype(dtype)
    values, indices, _ = extract(dense)
    assert values.tobytes() == dense[2:].tobytes()
    assert indices.tolist() == [[2], [3], [4], [5]]


@pytest.mark.parametrize("shape", [(5,), (0,), (0, 3), (4, 3), (2, 3, 4), (2, 1, 3, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_extract_is_what_torch_gives(shape: Any, dtype: str) -> None:
    generator = np.random.default_rng(0)
    tensor = torch().from_numpy(generator.integers(0, 2, shape)).to(getattr(torch(), dtype))
    want = (tensor[tensor != 0].numpy(), torch().nonzero(tensor).numpy(), np.array(tensor.shape))
    for x in (tensor, tensor.numpy()):
        for mine, theirs in zip(extract(x), want, strict=True):
            assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
            assert mine.tobytes("A") == theirs.tobytes("A")
            assert mine.flags.c_contiguous == theirs.flags.c_contiguous


def test_extract_from_a_parameter_in_bfloat16() -> None:
    parameter = torch().nn.Parameter(torch().tensor([[0.0, 1.5]], dtype=torch().bfloat16))
    values, indices, _ = extract(parameter)
    assert (values.dtype.name, values.tolist(), indices.tolist()) == ("bfloat16", [1.5], [[0, 1]])


def test_extract_does_not_share_memory() -> None:
    dense = np.ones(3)
    assert not np.shares_memory(extract(dense)[0], dense)


def test_extract_nonsense() -> None:
    with pytest.raises(ValueError, match="0-d"):
        extract(np.array(1.0))
    with pytest.raises(TypeError, match="not list"):
        extract([0, 1])
    with pytest.raises(TypeError, match="<U1 was found"):
        extract(np.array(["a"]))


def test_no_part_of_a_packed_list_is_a_tensor() -> None:
    tensors = torch()
    with pytest.raises(ValueError, match="0-d"):
        extract(tensors.tensor(1.0))
    with pytest.raises(TypeError, match="with Tensor at position 1"):
        ParameterPackerWithControlVariates(1).unpack_parameters([np.ones(1), tensors.ones(1)])


def test_sparse_nonsense_lists() -> None:
    packer = SparseCooParameterPacker()
    packed = packer.pack_parameters(*sparse(np.eye(3), np.ones(4)))
    for count in (2, 3, 5, 6):
        with pytest.raises(ValueError, match=f"but {count} were found"):
            packer.unpack_parameters(packed[:count])
    with pytest.raises(ValueError, match="is empty"):
        packer.unpack_parameters([])
    # 2 values, 1 index array and 3 shapes are 3k too
    shapes = [np.array([3, 3]), np.array([4]), np.array([4])]
    with pytest.raises(ValueError, match=r"tensor \d: .* must match, but found values \(3,\)"):
        packer.unpack_parameters([packed[0], packed[1], packed[2], *shapes, np.array(["a", "b"])])
    with pytest.raises(ValueError, match="found 1 names, 2 arrays"):
        packer.unpack_parameters([*packed[:-1], np.array(["a"])])


def test_sparse_nonsense_parts() -> None:
    packer = SparseCooParameterPacker()
    values, (indices, shapes, names) = sparse(np.eye(3), np.ones(4))
    with pytest.raises(ValueError, match="found 2, 1, 2 and 2"):
        packer.pack_parameters(values, (indices[:1], shapes, names))
    with pytest.raises(ValueError, match="found 2, 2, 2 and 1"):
        packer.pack_parameters(values, (indices, shapes, names[:1]))
    with pytest.raises(ValueError, match="but 2 were found"):
        packer.pack_parameters(values, (indices, shapes))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not NoneType"):
        packer.pack_parameters(values, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tensor 0: indices must be integers, but dtype float64"):
        packer.pack_parameters(values, ([i.astype(float) for i in indices], shapes, names))
    with pytest.raises(ValueError, match="tensor 1: "):
        packer.pack_parameters(values, (indices, [shapes[0], shapes[0]], names))


# Lists


@pytest.mark.parametrize(
    "packer",
    [
        ParameterPackerWithControlVariates(1),
        *(kind() for kind in SCALAR),
        ParameterPackerWithLayerNames(),
        SparseCooParameterPacker(),
    ],
)
def test_only_lists_of_ndarrays(packer: Any) -> None:
    for wrong in ((np.ones(1),), np.ones(1), None, "ab"):
        with pytest.raises(TypeError, match="must be a list of ndarrays, not "):
            packer.unpack_parameters(wrong)
        with pytest.raises(TypeError, match="must be a list of ndarrays, not "):
            packer.pack_parameters(wrong, 1)
    with pytest.raises(TypeError, match="with dict at position 1"):
        packer.unpack_parameters([np.ones(1), {}])


def test_numpy_scalars_are_0d_weights() -> None:
    # the mean of two 0-d arrays is a numpy scalar
    averaged = [np.add(np.array(1.0), np.array(2.0)) / 2]
    assert isinstance(averaged[0], np.generic)
    packed = ParameterPackerWithClippingBit().pack_parameters(averaged, 0.5)
    assert packed[0] is averaged[0]
