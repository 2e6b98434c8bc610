"""Arrays that make their elements themselves are taken as they are: subclasses and stand-ins."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.records import Array, ArrayRecord, ParametersRecord
from archive.records.ownelements import data_payload, has_own_elements
from archive.records.packers.named import elements, pack_record
from archive.tools import edit

from .test_payload import saved

VALUES = np.arange(6.0).reshape(2, 3)


class Scaled(Array):
    """Elements of its own class: those of its payload times ten."""

    def numpy(self, *, copy: bool = False) -> Any:
        return 10 * super().numpy(copy=copy)

    @property
    def data(self) -> bytes:
        return saved(self.numpy())


class StandIn:
    """An Array to isinstance, as objects made by unittest.mock with a spec are, without a payload."""

    dtype, shape, stype = "float64", (2, 3), "numpy.ndarray"

    @property
    def __class__(self) -> type:
        return Array

    @property
    def data(self) -> bytes:
        return saved(10 * VALUES)

    def numpy(self) -> Any:
        return 10 * VALUES


OWN: list[Any] = [Scaled(VALUES), StandIn()]


def test_which_arrays_have_elements_of_their_own() -> None:
    class Plain(Array):
        pass

    assert [has_own_elements(array) for array in OWN] == [True, True]
    assert not has_own_elements(Plain(VALUES))
    assert isinstance(StandIn(), Array)
    assert [data_payload(array).data() for array in OWN] == [saved(10 * VALUES)] * 2


@pytest.mark.parametrize("own", OWN)
def test_a_record_keeps_and_converts_them(own: Any) -> None:
    record = ArrayRecord()
    record["w"] = own
    assert record["w"] is own
    assert record.count_bytes() == len(own.data) + 1
    np.testing.assert_array_equal(record.to_numpy_ndarrays()[0], 10 * VALUES)
    np.testing.assert_array_equal(record.to_numpy_ndarrays(keep_input=False)[0], 10 * VALUES)
    assert not record


@pytest.mark.parametrize("own", OWN)
def test_a_new_record_takes_their_data(own: Any) -> None:
    for record in (ArrayRecord({"w": own}), ArrayRecord.from_array_dict({"w": own})):
        assert type(record["w"]) is Array
        assert record["w"].data == own.data


@pytest.mark.filterwarnings("ignore:ParametersRecord is the old name:DeprecationWarning")
def test_the_old_record_keeps_the_objects_themselves() -> None:
    for own in OWN:
        assert ParametersRecord({"w": own}, keep_input=True)["w"] is own


def test_the_stype_of_elements_of_their_own_is_not_asked() -> None:
    class Packed(Array):
        def numpy(self, *, copy: bool = False) -> Any:
            return np.frombuffer(self.data, self.dtype)

    record = ArrayRecord.from_checked({"w": Packed("uint8", (2,), "packed", b"ab")})
    np.testing.assert_array_equal(record.to_numpy_ndarrays()[0], [97, 98])


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("keep_input", [True, False])
def test_tensors_are_of_their_own_elements(own: Any, keep_input: bool) -> None:
    torch = pytest.importorskip("torch")
    plain = Array(VALUES)
    tied = Scaled.from_payload(plain.dtype, plain.shape, plain.stype, plain.payload)
    record = ArrayRecord.from_checked({"plain": plain, "tied": tied, "own": own})
    tensors = record.to_torch_state_dict(keep_input=keep_input)
    assert torch.equal(tensors["plain"], torch.from_numpy(VALUES))
    assert torch.equal(tensors["tied"], torch.from_numpy(10 * VALUES))
    assert torch.equal(tensors["own"], torch.from_numpy(10 * VALUES))


@pytest.mark.parametrize("own", OWN)
def test_saved_and_copied_by_their_data(own: Any, tmp_path: Path) -> None:
    archive.save({"w": own, "plain": Array(VALUES)}, tmp_path / "a.h5")
    with archive.open(tmp_path / "a.h5") as saved_:
        np.testing.assert_array_equal(saved_["w"].numpy(), 10 * VALUES)
        assert saved_["w"].data == own.data
    with edit(tmp_path / "a.h5") as editor:
        editor["plain"] = own
        editor.cast("float32", keys=["plain"])
    with archive.open(tmp_path / "a.h5") as saved_:
        np.testing.assert_array_equal(saved_["plain"].numpy(), np.float32(10 * VALUES))


def test_a_store_that_saves_in_the_background_copies_their_data(tmp_path: Path) -> None:
    with archive.CheckpointStore(tmp_path) as store:
        store.save({"w": Scaled(VALUES)}, 1)
        np.testing.assert_array_equal(store.open(1)["w"].numpy(), 10 * VALUES)


def test_a_packer_takes_their_elements() -> None:
    record = pack_record("P", "weights", ["w"], [VALUES])
    record["w"] = Scaled(VALUES)
    np.testing.assert_array_equal(elements(record)[0], 10 * VALUES)


def test_copies_of_a_subclass_stay_what_they_are() -> None:
    own = copy.deepcopy(Scaled(VALUES))
    assert type(own) is Scaled
    np.testing.assert_array_equal(own.numpy(), 10 * VALUES)
