"""Sparse tensors in one list: values, then indices, then shapes, then one array of names."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np

from archive.dtypes import is_ml_dtype
from archive.records.packers.base import ParameterPacker
from archive.records.packers.coordinates import (
    coordinates_to_record,
    record_to_coordinates,
    validate_coordinates,
)
from archive.records.packers.lists import (
    NDArray,
    NDArrays,
    names_to_ndarray,
    parse_list,
    parse_names,
    split_last,
)
from archive.records.packers.named import (
    Records,
    by_role,
    elements,
    pack_record,
    require_role,
    unique_names,
)
from archive.records.recordset import RecordSet
from archive.records.tensors import is_tensor_like, tensor_to_elements

__all__ = ["SparseCooParameterPacker"]

_PACKER: Final = "SparseCooParameterPacker"
SparseInfo: TypeAlias = tuple[NDArrays, NDArrays, list[str]]
"""Indices, shapes and names, one for each tensor."""


class SparseCooParameterPacker(ParameterPacker[SparseInfo]):
    """Packs the nonzero values of k tensors, their indices, shapes and names: 3k + 1 arrays.

    Examples
    --------
    >>> packer = SparseCooParameterPacker()
    >>> values, indices, shape = packer.extract_coo_info_from_dense(np.float32([[0, 5], [0, 7]]))
    >>> values, indices.tolist(), shape
    (array([5., 7.], dtype=float32), [[0, 1], [1, 1]], array([2, 2]))
    >>> packed = packer.pack_parameters([values], ([indices], [shape], ["fc.weight"]))
    >>> records = packer.to_records(packed)
    >>> list(records), list(records["fc.weight"])
    (['fc.weight', 'names'], ['values', 'indices_0', 'indices_1'])
    >>> [array.tolist() for array in packer.from_records(records)]
    [[5.0, 7.0], [[0, 1], [1, 1]], [2, 2], ['fc.weight']]
    """

    def pack_parameters(self, model_parameters: NDArrays, additional_parameters: SparseInfo) -> NDArrays:
        """Return values, indices and shapes of all tensors, and an array of their names.

        Parameters
        ----------
        model_parameters : list of ndarray
            Values of each tensor, (n,).
        additional_parameters : tuple
            Indices of each (n, axes), shape of each (axes,), and name of each.

        Raises
        ------
        TypeError
            Not such lists.
        ValueError
            Lists of different lengths, or arrays that do not match.
        """
        values = parse_list(model_parameters, "model_parameters")
        if not isinstance(additional_parameters, (tuple, list)):
            raise TypeError(
                "additional_parameters must be (indices, shapes, names), "
                f"not {type(additional_parameters).__name__}"
            )
        if len(additional_parameters) != 3:
            raise ValueError(
                "additional_parameters must be (indices, shapes, names), "
                f"but {len(additional_parameters)} were found"
            )
        indices = parse_list(additional_parameters[0], "indices")
        shapes = parse_list(additional_parameters[1], "shapes")
        names = names_to_ndarray(additional_parameters[2], "names")
        if not len(values) == len(indices) == len(shapes) == names.size:
            raise ValueError(
                "there must be as many values as indices, shapes and names: found "
                f"{len(values)}, {len(indices)}, {len(shapes)} and {names.size}"
            )
        _validate(values, indices, shapes)
        return [*values, *indices, *shapes, names]

    def unpack_parameters(self, packed_parameters: NDArrays) -> tuple[NDArrays, SparseInfo]:
        """Return the values of each tensor, and (indices, shapes, names).

        Raises
        ------
        TypeError
            Not a list of ndarrays of the right types.
        ValueError
            Not 3k + 1 arrays with k names, or arrays that do not match.
        """
        arrays, names = split_last(packed_parameters, "an array of names")
        count, odd = divmod(len(arrays), 3)
        if odd:
            raise ValueError(
                "packed_parameters must have 3k + 1 arrays (values, indices, shapes and names of k tensors), "
                f"but {len(arrays) + 1} were found"
            )
        values, indices, shapes = arrays[:count], arrays[count : 2 * count], arrays[2 * count :]
        _validate(values, indices, shapes)
        return values, (indices, shapes, parse_names(names, count))

    @staticmethod
    def extract_coo_info_from_dense(x: Any) -> tuple[NDArray, NDArray, NDArray]:
        """Return values, indices and shape of the elements of a dense array that are not zero.

        Parameters
        ----------
        x : torch.Tensor or ndarray
            At least one axis. -0.0 counts as zero; NaN and infinities do not.

        Returns
        -------
        values : ndarray, (n,)
            In C order, of the type of ``x``.
        indices : ndarray of int64, (n, axes)
            In Fortran order, as in torch.
        shape : ndarray of int64, (axes,)

        Raises
        ------
        TypeError
            Neither tensor nor ndarray, or elements that are not numbers.
        ValueError
            ``x`` has no axes.
        """
        if is_tensor_like(x):
            dense, _ = tensor_to_elements(x)
        elif isinstance(x, np.ndarray):
            dense = np.asarray(x)
        else:
            raise TypeError(f"x must be a tensor or ndarray, not {type(x).__name__}")
        if dense.dtype.kind not in "biufc" and not is_ml_dtype(dense.dtype):
            raise TypeError(f"x must hold numbers, but dtype {dense.dtype} was found")
        if dense.ndim == 0:
            raise ValueError("x must have at least one axis, but a 0-d one was found")
        places = np.nonzero(dense)
        indices = np.array(places, np.int64).T
        return dense[places], indices, np.array(dense.shape, np.int64)

    def to_records(self, packed_parameters: NDArrays) -> RecordSet:
        """Return a packed list as one record for each tensor, by its name, and one record ``names``.

        Indices are kept axis by axis in the smallest unsigned type. Where binsparse has the type of the
        values, its readers can read the record's HDF5 group by the attribute ``binsparse``. Repeated names,
        and ``names``, get ``~2``, ``~3``, ... appended.

        Raises
        ------
        TypeError, ValueError
            As `unpack_parameters`; or an index is outside its shape.
        """
        values, (indices, shapes, names) = self.unpack_parameters(packed_parameters)
        records = RecordSet()
        tensors = zip(unique_names(names, reserved=["names"]), values, indices, shapes, strict=True)
        for position, (name, *tensor) in enumerate(tensors):
            records[name] = coordinates_to_record(_PACKER, position, *tensor)
        records["names"] = pack_record(_PACKER, "names", ["names"], packed_parameters[-1:])
        return records

    def from_records(self, records: Records) -> NDArrays:
        """Return the packed list again, indices in their own type and order.

        Raises
        ------
        TypeError, ValueError
            Records of this packer are missing, repeated, or do not match.
        """
        roles = by_role(records, _PACKER)
        (names,) = elements(require_role(roles, _PACKER, "names"), ["names"])
        tensors = {record.attributes.get("position"): record for record in roles.get("sparse_tensor", ())}
        count = len(parse_names(names))
        if len(roles.get("sparse_tensor", ())) != count or set(tensors) != set(range(count)):
            raise ValueError(
                f"{count} sparse tensors must be there by position, but {list(tensors)} were found"
            )
        parts = [record_to_coordinates(position, tensors[position]) for position in range(count)]
        return [*(part[place] for place in range(3) for part in parts), names]


def _validate(values: NDArrays, indices: NDArrays, shapes: NDArrays) -> None:
    for position, tensor in enumerate(zip(values, indices, shapes, strict=True)):
        validate_coordinates(position, *tensor)
