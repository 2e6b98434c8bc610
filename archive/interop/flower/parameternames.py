"""Names for Flower's Parameters: a list of arrays as records of named arrays, and back, byte for byte.

The older API sends arrays without names, and FL4Health packs more into the same list: control variates,
bounds, names of layers. Names come from the caller, and a packer of `archive.packers` tells what each
part of a list is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from archive.errors import ArchiveError
from archive.records import Array, ArrayRecord, RecordDict
from archive.records.packers import (
    ParameterPacker,
    ParameterPackerAdaptiveConstraint,
    ParameterPackerWithClippingBit,
    ParameterPackerWithControlVariates,
    ParameterPackerWithLayerNames,
    SparseCooParameterPacker,
)
from archive.records.packers.lists import NDArrays
from archive.records.packers.named import PACKER_VERSION, unique_names

__all__ = ["MODEL", "Names", "ParameterNamesError", "named_parameters", "parameter_names", "plain_parameters"]

Names: TypeAlias = Sequence[str] | Mapping[str, Any] | None
"""Names of arrays in order: themselves, or a state dict or ArrayRecord that has them."""

MODEL = "model"
"""Record of the weights."""
_EXACT = "model.bytes"
_NAMES = "names"
"""Packer of a record whose arrays were only given names."""
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Ends of the names of torch's tensors that have no gradient, and therefore no control variates."""
_ROLES = {
    ParameterPackerWithClippingBit: "clipping_bound",
    ParameterPackerAdaptiveConstraint: "drift_penalty_weight",
}
"""What the number at the end of a server's list is."""


class ParameterNamesError(ArchiveError, ValueError):
    """Names or packer do not fit the list of arrays."""


def parameter_names(names: Names) -> list[str] | None:
    """Return the names that a list, a state dict or an ArrayRecord gives.

    Raises
    ------
    ParameterNamesError
        Something else, or names that are not text.

    Examples
    --------
    >>> parameter_names({"fc.weight": ..., "fc.bias": ...})
    ['fc.weight', 'fc.bias']
    """
    if names is None:
        return None
    found = [] if isinstance(names, (str, bytes)) or not isinstance(names, Iterable) else list(names)
    if not found or not all(isinstance(name, str) for name in found):
        raise ParameterNamesError(
            f"names must be a list of str, a state dict or an ArrayRecord, not {names!r:.80}",
            key="names",
            remedy="give list(net.state_dict())",
        )
    return found


def named_parameters(arrays: Sequence[Array], names: Names = None, packer: Any = None) -> RecordDict:
    """Return a list of arrays as records by role: ``model``, and what a packer finds beside the weights.

    Parameters
    ----------
    arrays : sequence of Array
        As `parameter_array` makes them of the tensors of Flower's Parameters.
    names : list of str, state dict or ArrayRecord, optional
        Names of the weights, in order; without them weights are numbered.
    packer : a packer of `archive.packers`, optional
        By which the list was packed. A list of as many arrays as there are names is taken to be weights,
        where the packer finds nothing else in it: before the first round, strategies send the model alone.

    Returns
    -------
    RecordDict
        Records whose attributes say packer and role; `plain_parameters` needs nothing else.

    Raises
    ------
    ParameterNamesError
        More or fewer arrays than names, or a list that the packer did not pack.

    Examples
    --------
    >>> import numpy as np
    >>> packed = [Array(np.zeros(2)), Array(np.ones(2))]
    >>> records = named_parameters(packed, ["fc.weight"], ParameterPackerWithControlVariates(1))
    >>> {name: list(record) for name, record in records.items()}
    {'model': ['fc.weight'], 'control_variates': ['fc.weight']}
    >>> plain_parameters(records) == packed
    True
    """
    known = parameter_names(names)
    if packer is None:
        return RecordDict({MODEL: _weights(arrays, known)})
    if not isinstance(packer, ParameterPacker) or not hasattr(packer, "to_records"):
        raise ParameterNamesError(
            f"packer must be one of archive.packers, not {type(packer).__name__}",
            key="packer",
            remedy="FL4Health's packers have packers of the same names there",
        )
    try:
        found = _pack(arrays, known, packer)
    except (TypeError, ValueError) as error:
        if known is not None and len(known) == len(arrays):
            return RecordDict({MODEL: _weights(arrays, known)})
        raise ParameterNamesError(
            f"{type(packer).__name__} did not pack these {len(arrays)} arrays: {error}",
            key="packer",
            remedy="give the packer of the strategy, and the names of the model's weights",
        ) from error
    return _with_exact_bytes(arrays, found)


def plain_parameters(records: Mapping[str, Any]) -> list[Array]:
    """Return the list of arrays of which `named_parameters` made records; other records are skipped.

    Raises
    ------
    ParameterNamesError
        `named_parameters` makes no such records.
    """
    own = {
        name: record
        for name, record in records.items()
        if isinstance(record, ArrayRecord) and record.attributes.get("packer") is not None
    }
    packers = {str(record.attributes["packer"]) for record in own.values()} - {_EXACT}
    if len(packers) != 1:
        raise ParameterNamesError(
            f"records of {len(packers)} packers: {', '.join(sorted(packers)) or 'none'}", key=MODEL
        )
    (packer,) = packers
    try:
        arrays = _unpack(packer, own)
        exact: Mapping[str, Array] = own.get(_EXACT, {})
        return [exact.get(str(position), array) for position, array in enumerate(arrays)]
    except (LookupError, TypeError, ValueError) as error:
        raise ParameterNamesError(f"not records of parameters: {error}", key=MODEL) from error


def _weights(arrays: Sequence[Array], names: list[str] | None) -> ArrayRecord:
    """Return the arrays themselves under their names."""
    if names is None:
        names = [str(position) for position in range(len(arrays))]
    if len(names) != len(arrays):
        raise ParameterNamesError(
            f"{len(names)} names for {len(arrays)} arrays",
            key="names",
            remedy="give the names in the order of the arrays, and the packer if more than weights is packed",
        )
    record = ArrayRecord.from_checked(dict(zip(unique_names(names), arrays, strict=True)))
    record.attributes.update(packer=_NAMES, packer_version=PACKER_VERSION, role="weights")
    return record


def _pack(arrays: Sequence[Array], names: list[str] | None, packer: Any) -> RecordDict:
    elements: NDArrays = [array.numpy() for array in arrays]
    if isinstance(packer, (ParameterPackerWithLayerNames, SparseCooParameterPacker)):
        packed = packer.to_records(elements)
    elif isinstance(packer, ParameterPackerWithControlVariates):
        variates = len(arrays) - packer.size_of_model_params
        packed = packer.to_records(elements, names, variate_names=_variate_names(names, variates))
    else:
        packed = packer.to_records(elements, names, role=_ROLES[type(packer)])
    weights: Any = packed["weights"] if "weights" in packed else None  # noqa: SIM401 a RecordSet
    dense = weights is not None and weights.attributes.get("role") == "weights"
    spelled = {"weights": MODEL} if dense else {name: f"{MODEL}.{name}" for name in packed}
    return RecordDict({spelled.get(name, name): packed[name] for name in packed})


def _variate_names(names: list[str] | None, count: int) -> list[str] | None:
    """Return the names of control variates: those of all weights, or of those that are trained."""
    trained = [name for name in names or () if name.rpartition(".")[2] not in _BUFFERS]
    return next((found for found in (names, trained) if found is not None and len(found) == count), None)


def _unpack(packer: str, records: Mapping[str, ArrayRecord]) -> list[Array]:
    if packer == _NAMES:
        (weights,) = (record for name, record in records.items() if name != _EXACT)
        return list(weights.values())
    made: Any = _packer_called(packer, records)
    return [Array.from_numpy_ndarray(found) for found in made.from_records(records)]


def _packer_called(name: str, records: Mapping[str, ArrayRecord]) -> Any:
    if name == ParameterPackerWithControlVariates.__name__:
        sizes = [record.attributes.get("size_of_model_params") for record in records.values()]
        (size,) = (size for size in sizes if isinstance(size, int))
        return ParameterPackerWithControlVariates(size)
    kinds: list[type[Any]] = [*_ROLES, ParameterPackerWithLayerNames, SparseCooParameterPacker]
    return {kind.__name__: kind for kind in kinds}[name]()


def _with_exact_bytes(arrays: Sequence[Array], records: RecordDict) -> RecordDict:
    """Add the arrays that numpy would write in other bytes than those that came."""
    again = plain_parameters(records)
    other = {
        str(position): array
        for position, (array, back) in enumerate(zip(arrays, again, strict=True))
        if array.data != back.data
    }
    if other:
        record = ArrayRecord.from_checked(other)
        record.attributes.update(packer=_EXACT, packer_version=PACKER_VERSION, role="bytes")
        records[_EXACT] = record
    return records
