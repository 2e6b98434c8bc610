"""Weights and control variates in one list, as SCAFFOLD exchanges them."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Final

from archive.records.packers.base import ParameterPacker
from archive.records.packers.lists import NDArrays, parse_list
from archive.records.packers.named import Records, by_role, elements, pack_record, require_role
from archive.records.recordset import RecordSet

__all__ = ["ParameterPackerWithControlVariates"]

_PACKER: Final = "ParameterPackerWithControlVariates"


class ParameterPackerWithControlVariates(ParameterPacker[NDArrays]):
    """Packs weights followed by control variates, any number of them and of any types.

    Parameters
    ----------
    size_of_model_params : int
        Number of arrays that are weights.

    Raises
    ------
    TypeError
        ``size_of_model_params`` is not an int.
    ValueError
        It is negative.

    Examples
    --------
    >>> import numpy as np
    >>> packer = ParameterPackerWithControlVariates(2)
    >>> packed = packer.pack_parameters([np.zeros((2, 2)), np.array(7)], [np.ones((2, 2))])
    >>> records = packer.to_records(packed, names=["fc.weight", "bn.steps"], variate_names=["fc.weight"])
    >>> {name: list(records[name]) for name in records}
    {'weights': ['fc.weight', 'bn.steps'], 'control_variates': ['fc.weight']}
    >>> weights, variates = packer.unpack_parameters(packer.from_records(records))
    >>> len(weights), len(variates)
    (2, 1)
    """

    def __init__(self, size_of_model_params: int) -> None:
        size = operator.index(size_of_model_params)
        if size < 0:
            raise ValueError(f"size_of_model_params must not be negative, but {size} was found")
        self.size_of_model_params = size

    def pack_parameters(self, model_weights: NDArrays, additional_parameters: NDArrays) -> NDArrays:
        """Return the weights followed by the control variates.

        Raises
        ------
        TypeError
            Not two lists of ndarrays.
        ValueError
            Not ``size_of_model_params`` weights: unpacking would split the list elsewhere.
        """
        weights = parse_list(model_weights, "model_weights")
        if len(weights) != self.size_of_model_params:
            raise ValueError(
                f"size_of_model_params is {self.size_of_model_params}, but {len(weights)} weights were found"
            )
        return weights + parse_list(additional_parameters, "additional_parameters")

    def unpack_parameters(self, packed_parameters: NDArrays) -> tuple[NDArrays, NDArrays]:
        """Return the weights, and the control variates after them.

        Raises
        ------
        TypeError
            Not a list of ndarrays.
        ValueError
            The list is shorter than ``size_of_model_params``.
        """
        packed = parse_list(packed_parameters, "packed_parameters")
        if len(packed) < self.size_of_model_params:
            raise ValueError(
                f"size_of_model_params is {self.size_of_model_params}, "
                f"but packed_parameters has only {len(packed)} arrays"
            )
        return packed[: self.size_of_model_params], packed[self.size_of_model_params :]

    def to_records(
        self,
        packed_parameters: NDArrays,
        names: Sequence[str] | None = None,
        *,
        variate_names: Sequence[str] | None = None,
    ) -> RecordSet:
        """Return a packed list as the records ``weights`` and ``control_variates``.

        Parameters
        ----------
        packed_parameters : list of ndarray
        names : sequence of str, optional
            Names of the weights, as in the state dict; by default they are numbered.
        variate_names : sequence of str, optional
            Names of the variates, as in ``named_parameters()``; by default they are numbered.

        Raises
        ------
        TypeError, ValueError
            As `unpack_parameters`; or more or fewer names than arrays.
        """
        weights, variates = self.unpack_parameters(packed_parameters)
        size = self.size_of_model_params
        return RecordSet(
            {
                "weights": pack_record(_PACKER, "weights", names, weights, size_of_model_params=size),
                "control_variates": pack_record(_PACKER, "control_variates", variate_names, variates),
            }
        )

    def from_records(self, records: Records) -> NDArrays:
        """Return the packed list again, whatever the present names of its records.

        Raises
        ------
        TypeError, ValueError
            Records of this packer are missing, several have one role, or they were packed for another
            ``size_of_model_params``.
        """
        roles = by_role(records, _PACKER)
        weights = require_role(roles, _PACKER, "weights")
        variates = require_role(roles, _PACKER, "control_variates")
        size = weights.attributes.get("size_of_model_params")
        if size != self.size_of_model_params or len(weights) != size:
            raise ValueError(
                f"size_of_model_params is {self.size_of_model_params}, but the records were packed with "
                f"{size!r} and hold {len(weights)} weights"
            )
        return [*elements(weights), *elements(variates)]
