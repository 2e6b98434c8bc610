"""Tensors to Arrays and back; torch is found, never imported."""

import subprocess
import sys
from collections import OrderedDict, UserDict
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from archive.errors import UnsupportedDtypeError, ValueRangeError
from archive.records import Array, ArrayRecord
from archive.records.tensors import is_tensor, is_tensor_like, tensor_from_elements, tensor_to_elements

from .conftest import StoredPayload
from .test_payload import saved

torch = pytest.importorskip("torch")
Stored = Callable[..., tuple[Array, StoredPayload]]

SHARED = ["bool", "int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64", "complex64"]
LATER = ["complex128", "uint16", "uint32", "uint64"]
SPECIAL = ["bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"]


def bits(tensor: Any) -> list[int]:
    if tensor.numel() == 0:
        return []
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


@pytest.mark.parametrize("make", [Array, lambda t: Array(torch_tensor=t), Array.from_torch_tensor])
def test_from_tensor(make: Callable[[Any], Array]) -> None:
    array = make(torch.tensor([1.0, 2.0], requires_grad=True))
    assert array == Array(np.array([1, 2], "f4"))
    assert make(torch.nn.Parameter(torch.ones(2))) == Array(np.ones(2, "f4"))


def test_from_tensor_is_a_snapshot() -> None:
    tensor = torch.zeros(3)
    array = Array(tensor)
    tensor[0] = 9
    assert array.numpy()[0] == 0


def test_from_transposed_tensor_is_fortran_as_upstream() -> None:
    array = Array(torch.arange(6.0).reshape(2, 3).T)
    assert array.data == saved(np.arange(6, dtype="f4").reshape(2, 3).T)


def test_from_conjugated_and_negated_tensors() -> None:
    tensor = torch.tensor([1 + 2j])
    assert Array(tensor.conj()).numpy().tolist() == [1 - 2j]
    assert Array(tensor.conj().imag).numpy().tolist() == [-2]


@pytest.mark.parametrize("name", SHARED + LATER + SPECIAL)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_every_type_goes_in_and_out(name: str, shape: tuple[int, ...]) -> None:
    tensor = torch.ones(shape).to(getattr(torch, name))
    array = Array(tensor)
    assert array.dtype == name
    for source in (array, Array(array.dtype, array.shape, array.stype, array.data)):
        back = source.torch()
        assert back.dtype == tensor.dtype
        assert back.shape == tensor.shape
        assert bits(back) == bits(tensor)


def test_bfloat16_is_ml_dtypes() -> None:
    assert Array(torch.tensor([1.5]).bfloat16()).numpy().dtype == ml_dtypes.bfloat16


def test_from_odd_tensors_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        Array(torch.eye(2).to_sparse())
    for wrong in (np.zeros(2), [1.0], 3):
        with pytest.raises(TypeError):
            Array(torch_tensor=wrong)
        with pytest.raises(TypeError):
            Array.from_torch_tensor(wrong)
    with pytest.raises(TypeError):
        Array(torch.zeros(2), dtype="float32")
    with pytest.raises(TypeError):
        Array(torch_tensor=torch.zeros(2), ndarray=np.zeros(2))


def dtensor() -> Any:
    """Return a tensor of which other ranks hold parts, in a group of one rank."""
    from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh

    distributed = torch.distributed
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        return distribute_tensor(torch.ones(4, 2), init_device_mesh("cpu", (1,)), [Shard(0)])
    finally:
        distributed.destroy_process_group()


def masked() -> Any:
    from torch.masked import masked_tensor

    return masked_tensor(torch.ones(2), torch.tensor([True, False]))


def fake() -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode().from_tensor(torch.ones(3))


def nested(layout: Any) -> Any:
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "coo": (lambda: torch.eye(2).to_sparse(), r"to_dense\(\)"),
    "csr": (lambda: torch.eye(2).to_sparse_csr(), r"to_dense\(\)"),
    "mkldnn": (lambda: torch.eye(2).to_mkldnn(), r"to_dense\(\)"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), r"int_repr\(\)"),
    "half a byte": (
        lambda: torch.quantize_per_channel(
            torch.ones(2, 2), torch.ones(2), torch.zeros(2), 0, torch.quint4x2
        ),
        r"int_repr\(\)",
    ),
    "complex32": (lambda: torch.zeros(2, dtype=torch.complex32), r"view_as_real\(\)"),
    "fp4": (lambda: torch.empty(2, dtype=torch.float4_e2m1fn_x2), r"view\(torch.uint8\)"),
    "int4": (lambda: torch.empty(2, dtype=torch.int4), r"view\(torch.uint8\)"),
    "uint1": (lambda: torch.empty(2, dtype=torch.uint1), r"view\(torch.uint8\)"),
    "bits": (lambda: torch.empty(2, dtype=torch.bits8), r"view\(torch.uint8\)"),
    "nested": (lambda: nested(torch.strided), r"unbind\(\)"),
    "jagged": (lambda: nested(torch.jagged), r"unbind\(\)"),
    "masked": (masked, r"get_mask\(\)"),
    "fake": (fake, "a plain tensor"),
    "meta": (lambda: torch.empty(2, device="meta"), "initialise it"),
    "uninitialised": (torch.nn.UninitializedParameter, "run the module once"),
    "DTensor": (dtensor, r"full_tensor\(\)"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore")  # torch's, of what is a prototype or going to be removed
def test_tensors_without_elements_say_what_to_save(name: str) -> None:
    make, remedy = REFUSED[name]
    try:
        tensor = make()
    except (AttributeError, ImportError):
        pytest.skip("this torch has no such tensor")
    with pytest.raises(UnsupportedDtypeError, match=f"'w': no archive holds .*; .*{remedy}"):
        ArrayRecord(OrderedDict(w=tensor))


FREED: dict[str, Callable[[Any], Any]] = {
    "whole": lambda tensor: tensor,
    "a part": lambda tensor: tensor[50:, 30:],
    "turned": lambda tensor: tensor.T,
    "bfloat16": lambda tensor: tensor.view(torch.bfloat16),
    "one element": lambda tensor: tensor[-1, -1],
    "expanded": lambda tensor: tensor[-1, -1].expand(7),
}


@pytest.mark.parametrize("view", FREED)
@pytest.mark.parametrize("left", [0, 39_996])
def test_a_storage_that_was_freed_or_shrunk(view: str, left: int) -> None:
    """Saved as the memory of others, which verified; of a shrunk storage the process ended by SIGSEGV."""
    tensor = FREED[view](torch.zeros(100, 100))
    assert Array(FREED[view](torch.zeros(100, 100))).numpy().sum() == 0
    tensor.untyped_storage().resize_(left)
    with pytest.raises(
        ValueRangeError, match=rf"'w': a tensor that needs 40000 bytes of a storage of {left}"
    ):
        ArrayRecord(OrderedDict(w=tensor))


def test_no_element_needs_no_storage() -> None:
    tensor = torch.zeros(3, 0)[2:]
    tensor.untyped_storage().resize_(0)
    assert Array(tensor).shape == (1, 0)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (4, 0), (0,)])
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float8_e5m2"])
def test_strides_of_no_elements(shape: tuple[int, ...], name: str) -> None:
    tensor = torch.empty(shape, dtype=getattr(torch, name))
    assert Array(tensor).torch().stride() == tensor.stride()


def test_torch_is_private_and_writable() -> None:
    array = Array(np.zeros(3))
    array.torch()[0] = 9
    assert array.numpy()[0] == 0


def test_torch_of_a_lazy_array_takes_writable_memory(stored: Stored) -> None:
    array, payload = stored(np.zeros(3))
    array.torch()[0] = 9
    assert payload.reads == ["writable"]
    assert array.numpy()[0] == 0


def test_torch_swaps_foreign_byte_order() -> None:
    assert Array(np.array([1, 2], ">f4")).torch().tolist() == [1, 2]


def test_torch_keeps_fortran_order() -> None:
    assert Array(np.asfortranarray(np.arange(6.0).reshape(2, 3))).torch().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_reversed_elements_are_copied() -> None:
    assert tensor_from_elements(np.arange(3.0)[::-1]).tolist() == [2, 1, 0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_from_another_device_is_copied_once() -> None:
    tensor = torch.arange(3.0, device="cuda").bfloat16()
    elements, private = tensor_to_elements(tensor)
    assert private
    assert elements.tolist() == [0, 1, 2]
    array = Array(tensor)
    tensor[0] = 9
    assert array.torch().tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["U3", "S2", "M8[s]", "V4", "longdouble", ml_dtypes.int4])
def test_torch_without_such_a_type_is_a_type_error(kind: Any) -> None:
    with pytest.raises(TypeError, match="torch has no element type"):
        Array(np.zeros(2, kind)).torch()


def test_torch_of_another_stype_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="'raw'"):
        Array("float32", (1,), "raw", b"1234").torch()


def test_is_tensor() -> None:
    assert is_tensor(torch.zeros(1))
    assert is_tensor(torch.nn.Parameter(torch.zeros(1)))
    assert not is_tensor(np.zeros(1))


def test_without_torch_a_runtime_error_says_what_to_do() -> None:
    code = """
import sys
import numpy as np
from archive.records import Array, ArrayRecord
for call in (
    Array(np.zeros(2)).torch,
    lambda: Array(torch_tensor=1),
    lambda: Array.from_torch_tensor(1),
    lambda: ArrayRecord.from_torch_state_dict({}),
    lambda: ArrayRecord(torch_state_dict={}),
    ArrayRecord().to_torch_state_dict,
):
    try:
        call()
    except RuntimeError as error:
        assert str(error).startswith("PyTorch is required to use "), error
        assert "import torch" in str(error), error
    else:
        raise AssertionError(call)
assert ArrayRecord({}) == {}
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tensors_that_a_mapping_makes_on_the_way_are_not_tied() -> None:
    """The memory of each is freed, and its address used again, before the next is made."""

    class Lazy(UserDict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return torch.full((1000,), float(key))

    record = ArrayRecord(torch_state_dict=Lazy({str(number): None for number in range(20)}))
    assert [float(array.numpy()[0]) for array in record.values()] == [float(n) for n in range(20)]


# What stands in for a tensor


class Standin:
    """Has `detach`, `cpu` and `numpy`, as a tensor; its class is nobody's."""

    def __init__(self, elements: Any) -> None:
        self.elements = elements
        self.calls: list[str] = []

    def detach(self) -> "Standin":
        self.calls.append("detach")
        return self

    def cpu(self) -> "Standin":
        self.calls.append("cpu")
        return self

    def numpy(self) -> Any:
        self.calls.append("numpy")
        return self.elements


def test_a_tensor_is_what_has_its_methods() -> None:
    assert is_tensor_like(Standin([]))
    assert is_tensor_like(torch.zeros(1))
    assert not is_tensor(Standin([]))
    for other in (np.zeros(1), Array(np.zeros(1)), "text", None, 1.5):
        assert not is_tensor_like(other)


@pytest.mark.parametrize(
    "make",
    [
        Array,
        lambda t: Array(torch_tensor=t),
        Array.from_torch_tensor,
        lambda t: ArrayRecord({"w": t})["w"],
        lambda t: ArrayRecord(torch_state_dict={"w": t})["w"],
        lambda t: ArrayRecord.from_torch_state_dict({"w": t}, keep_input=False)["w"],
    ],
    ids=["Array", "torch_tensor", "from_torch_tensor", "ArrayRecord", "torch_state_dict", "state_dict"],
)
def test_from_what_stands_in_for_a_tensor(make: Callable[[Any], Array]) -> None:
    source = Standin(np.arange(6, dtype="f4").reshape(2, 3))
    array = make(source)
    assert source.calls == ["detach", "cpu", "numpy"]
    assert (array.dtype, array.shape, array.data) == ("float32", (2, 3), saved(source.elements))
    source.elements[0, 0] = 9
    assert array.numpy()[0, 0] == 0


def test_what_stands_in_for_a_tensor_but_has_no_elements() -> None:
    with pytest.raises(TypeError, match="no ndarray"):
        Array(Standin([1, 2]))


def test_a_state_of_tensors_and_stand_ins_keeps_its_ties() -> None:
    shared = torch.ones(2)
    record = ArrayRecord({"a": shared, "b": Standin(np.zeros(2)), "c": shared})
    assert record["a"].payload is record["c"].payload
    assert record["b"].numpy().tolist() == [0, 0]


def test_stand_ins_are_saved_without_torch() -> None:
    code = """
import sys, tempfile, os
import numpy as np, archive
from archive.tools import edit
class Standin:
    def detach(self): return self
    def cpu(self): return self
    def numpy(self): return np.arange(3.0)
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "a.h5")
    archive.save({"w": Standin(), "v": Standin()}, path)
    with edit(path) as editor:
        editor["v"] = Standin()
        editor.cast("float32", keys=["v"])
    with archive.open(path) as saved:
        assert saved["w"].numpy().tolist() == [0, 1, 2]
        assert saved["v"].numpy().dtype == "float32"
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
