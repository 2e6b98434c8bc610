"""Weights and one number in one list: a clipping bit or bound, a penalty weight or a training loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np

from archive.dtypes import is_ml_dtype
from archive.records.packers.base import ParameterPacker
from archive.records.packers.lists import NDArray, NDArrays, parse_list, split_last
from archive.records.packers.named import Records, by_role, elements, pack_record, require_role
from archive.records.recordset import RecordSet

__all__ = ["ParameterPackerAdaptiveConstraint", "ParameterPackerWithClippingBit"]

_CLIPPING: Final = "ParameterPackerWithClippingBit"
_ADAPTIVE: Final = "ParameterPackerAdaptiveConstraint"
_CLIPPING_ROLES: Final = ("clipping_bound", "clipping_bit")
_ADAPTIVE_ROLES: Final = ("drift_penalty_weight", "train_loss")


class ParameterPackerWithClippingBit(ParameterPacker[float]):
    """Packs weights followed by a clipping bit (from a client) or clipping bound (from the server).

    The number is 0-d as packed here, and of shape (1,) in the first round of client-level DP: both are
    accepted and stay as they are.

    Examples
    --------
    >>> packer = ParameterPackerWithClippingBit()
    >>> packed = packer.pack_parameters([np.zeros(3)], 0.1)
    >>> packed[-1], packer.unpack_parameters(packed)[1]
    (array(0.1), 0.1)
    >>> records = packer.to_records(packed, role="clipping_bound")
    >>> {name: list(records[name]) for name in records}
    {'weights': ['000'], 'clipping_bound': ['value']}
    """

    def pack_parameters(self, model_weights: NDArrays, additional_parameters: float) -> NDArrays:
        """Return the weights followed by the number as ``numpy.array`` makes it.

        Raises
        ------
        TypeError, ValueError
            Not a list of ndarrays, or not one real number.
        """
        return _pack(model_weights, additional_parameters, "additional_parameters")

    def unpack_parameters(self, packed_parameters: NDArrays) -> tuple[NDArrays, float]:
        """Return the weights, and the number as a bool, int or float; TypeError or ValueError without one."""
        weights, scalar = _unpack(packed_parameters, "a clipping bit or bound")
        return weights, _python_number(scalar)

    def to_records(
        self,
        packed_parameters: NDArrays,
        names: Sequence[str] | None = None,
        *,
        role: Literal["clipping_bound", "clipping_bit"],
    ) -> RecordSet:
        """Return a packed list as the record ``weights`` and a record called ``role``.

        Parameters
        ----------
        packed_parameters : list of ndarray
        names : sequence of str, optional
            Names of the weights; by default they are numbered.
        role : {"clipping_bound", "clipping_bit"}
            Meaning of the number, which the list does not name: the server packs a bound, a client a bit.

        Raises
        ------
        TypeError, ValueError
            As `unpack_parameters`; another role; more or fewer names than weights.
        """
        weights, scalar = _unpack(packed_parameters, "a clipping bit or bound")
        return _to_records(_CLIPPING, names, weights, scalar, role, _CLIPPING_ROLES)

    def from_records(self, records: Records) -> NDArrays:
        """Return the packed list again; TypeError or ValueError where its records are missing."""
        return _from_records(records, _CLIPPING, _CLIPPING_ROLES)


class ParameterPackerAdaptiveConstraint(ParameterPacker[float]):
    """Packs weights followed by a training loss (from a client) or drift penalty weight (from the server).

    Examples
    --------
    >>> packer = ParameterPackerAdaptiveConstraint()
    >>> packed = packer.pack_parameters([np.zeros(3)], 1)
    >>> packed[-1], packer.unpack_parameters(packed)[1]
    (array(1), 1.0)
    >>> list(packer.to_records(packed, role="train_loss"))
    ['weights', 'train_loss']
    """

    def pack_parameters(self, model_weights: NDArrays, extra_adaptive_variable: float) -> NDArrays:
        """Return the weights followed by the number as ``numpy.array`` makes it.

        Raises
        ------
        TypeError, ValueError
            Not a list of ndarrays, or not one real number.
        """
        return _pack(model_weights, extra_adaptive_variable, "extra_adaptive_variable")

    def unpack_parameters(self, packed_parameters: NDArrays) -> tuple[NDArrays, float]:
        """Return the weights, and the number as a float; TypeError or ValueError without one."""
        weights, scalar = _unpack(packed_parameters, "a penalty weight or training loss")
        return weights, float(_python_number(scalar))

    def to_records(
        self,
        packed_parameters: NDArrays,
        names: Sequence[str] | None = None,
        *,
        role: Literal["drift_penalty_weight", "train_loss"],
    ) -> RecordSet:
        """Return a packed list as the record ``weights`` and a record called ``role``.

        Parameters
        ----------
        packed_parameters : list of ndarray
        names : sequence of str, optional
            Names of the weights; by default they are numbered.
        role : {"drift_penalty_weight", "train_loss"}
            Meaning of the number, which the list does not name: the server packs a weight, a client its loss.

        Raises
        ------
        TypeError, ValueError
            As `unpack_parameters`; another role; more or fewer names than weights.
        """
        weights, scalar = _unpack(packed_parameters, "a penalty weight or training loss")
        return _to_records(_ADAPTIVE, names, weights, scalar, role, _ADAPTIVE_ROLES)

    def from_records(self, records: Records) -> NDArrays:
        """Return the packed list again; TypeError or ValueError where its records are missing."""
        return _from_records(records, _ADAPTIVE, _ADAPTIVE_ROLES)


def _pack(model_weights: NDArrays, value: object, what: str) -> NDArrays:
    weights = parse_list(model_weights, "model_weights")
    if isinstance(value, (list, tuple, str, bytes)) or value is None:
        raise TypeError(f"{what} must be one number, not {type(value).__name__}")
    return [*weights, _parse_scalar(np.array(value), what)]


def _unpack(packed_parameters: object, what: str) -> tuple[NDArrays, NDArray]:
    weights, scalar = split_last(packed_parameters, what)
    return weights, _parse_scalar(scalar, f"the last of {len(weights) + 1} packed_parameters")


def _parse_scalar(scalar: NDArray, what: str) -> NDArray:
    if scalar.dtype.kind not in "biuf" and not is_ml_dtype(scalar.dtype):
        raise TypeError(f"{what} must be one real number, but dtype {scalar.dtype} was found")
    if scalar.shape not in ((), (1,)):
        raise ValueError(f"{what} must have shape () or (1,), but {scalar.shape} was found")
    return scalar


def _to_records(
    packer: str,
    names: Sequence[str] | None,
    weights: NDArrays,
    scalar: NDArray,
    role: str,
    roles: tuple[str, str],
) -> RecordSet:
    if role not in roles:
        raise ValueError(f"role of {packer} must be {roles[0]!r} or {roles[1]!r}, not {role!r}")
    return RecordSet(
        {
            "weights": pack_record(packer, "weights", names, weights),
            role: pack_record(packer, role, ["value"], [scalar]),
        }
    )


def _from_records(records: Records, packer: str, roles: tuple[str, str]) -> NDArrays:
    found = by_role(records, packer)
    weights = require_role(found, packer, "weights")
    (scalar,) = elements(require_role(found, packer, *roles), ["value"])
    return [*elements(weights), _parse_scalar(scalar, "value")]


def _python_number(scalar: NDArray) -> float:
    number = scalar.item()
    return number if isinstance(number, (bool, int, float)) else float(number)
