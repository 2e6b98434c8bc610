"""Weights and their names in one list, as dynamic layer exchange sends them."""

from __future__ import annotations

from typing import Final

from archive.records.packers.base import ParameterPacker
from archive.records.packers.lists import NDArrays, names_to_ndarray, parse_list, parse_names, split_last
from archive.records.packers.named import (
    Records,
    by_role,
    elements,
    pack_record,
    require_role,
    unique_names,
)
from archive.records.recordset import RecordSet

__all__ = ["ParameterPackerWithLayerNames"]

_PACKER: Final = "ParameterPackerWithLayerNames"


class ParameterPackerWithLayerNames(ParameterPacker[list[str]]):
    """Packs weights followed by one array of their names.

    A name may occur twice. Without names the array is float64 of shape (0,).

    Examples
    --------
    >>> import numpy as np
    >>> packer = ParameterPackerWithLayerNames()
    >>> packed = packer.pack_parameters([np.zeros(3), np.ones(2)], ["fc1", "fc2"])
    >>> packed[-1], packer.unpack_parameters(packed)[1]
    (array(['fc1', 'fc2'], dtype='<U3'), ['fc1', 'fc2'])
    >>> records = packer.to_records(packed)
    >>> {name: list(records[name]) for name in records}
    {'weights': ['fc1', 'fc2'], 'names': ['names']}
    """

    def pack_parameters(
        self, model_weights: NDArrays, weights_names: list[str] | tuple[str, ...]
    ) -> NDArrays:
        """Return the weights followed by an array of their names.

        Raises
        ------
        TypeError
            Not a list of ndarrays and a list or tuple of str.
        ValueError
            More or fewer names than weights; a name that ends with NUL, which numpy's text drops.
        """
        weights = parse_list(model_weights, "model_weights")
        names = names_to_ndarray(weights_names, "weights_names")
        parse_names(names, len(weights))
        return [*weights, names]

    def unpack_parameters(self, packed_parameters: NDArrays) -> tuple[NDArrays, list[str]]:
        """Return the weights and their names.

        Raises
        ------
        TypeError
            Not a list of ndarrays that ends with text.
        ValueError
            The list is empty, or there are more or fewer names than weights.
        """
        weights, names = split_last(packed_parameters, "an array of names")
        return weights, parse_names(names, len(weights))

    def to_records(self, packed_parameters: NDArrays) -> RecordSet:
        """Return a packed list as the records ``weights``, by its own names, and ``names``, as packed.

        Repeated names get ``~2``, ``~3``, ... appended in ``weights``.

        Raises
        ------
        TypeError, ValueError
            As `unpack_parameters`.
        """
        weights, names = self.unpack_parameters(packed_parameters)
        return RecordSet(
            {
                "weights": pack_record(_PACKER, "weights", names, weights),
                "names": pack_record(_PACKER, "names", ["names"], packed_parameters[-1:]),
            }
        )

    def from_records(self, records: Records) -> NDArrays:
        """Return the packed list again, in the order of ``names``.

        Raises
        ------
        TypeError, ValueError
            Records of this packer are missing, several have one role, or names and weights do not match.
        """
        roles = by_role(records, _PACKER)
        weights = require_role(roles, _PACKER, "weights")
        (names,) = elements(require_role(roles, _PACKER, "names"), ["names"])
        keys = unique_names(parse_names(names, len(weights)))
        return [*elements(weights, keys), names]
