"""Packed lists by name: array records with packer and role as attributes, and the search for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from archive.records.array import Array
from archive.records.arrayrecord import ArrayRecord
from archive.records.ownelements import has_own_elements
from archive.records.packers.lists import NDArray, NDArrays
from archive.records.recorddict import RecordDict
from archive.records.recordset import RecordSet
from archive.records.stype import SType

__all__ = [
    "PACKER_VERSION",
    "Records",
    "by_role",
    "elements",
    "is_fortran",
    "pack_record",
    "require_role",
    "unique_names",
]

PACKER_VERSION = 1
"""Version of records by role; a reader refuses later versions."""

Records: TypeAlias = RecordSet | RecordDict | Mapping[str, Any]
"""Records of any kind by name, which may hold a packed list."""


def pack_record(
    packer: str, role: str, names: Sequence[str] | None, arrays: NDArrays, **attributes: Any
) -> ArrayRecord:
    """Return a record of copies, with packer and role as attributes.

    Parameters
    ----------
    packer : str
        Class name of the packer.
    role : str
        Meaning of the arrays to the packer.
    names : sequence of str, optional
        One for each array, made unique; without them the arrays are numbered: ``"000"``, ``"001"``, ...
    arrays : list of ndarray
    **attributes
        More values that the way back needs.

    Raises
    ------
    TypeError
        A name is not a str.
    ValueError
        More or fewer names than arrays, or an array of Python objects.

    Examples
    --------
    >>> record = pack_record("Packer", "weights", ["w", "w"], [np.zeros(2), np.ones(2)])
    >>> list(record), record.attributes
    (['w', 'w~2'], {'packer': 'Packer', 'packer_version': 1, 'role': 'weights'})
    """
    if names is None:
        width = max(3, len(str(len(arrays) - 1)))
        names = [f"{position:0{width}}" for position in range(len(arrays))]
    elif isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(f"names of {role} must be a list of str, not {type(names).__name__}")
    elif len(names) != len(arrays):
        raise ValueError(f"{role} need a name each: found {len(names)} names for {len(arrays)} arrays")
    record = ArrayRecord()
    fortran = []
    for name, array in zip(unique_names(names), map(np.asarray, arrays), strict=True):
        record[name] = Array.from_numpy_ndarray(array)
        if is_fortran(array):
            fortran.append(name)
    record.attributes.update(packer=packer, packer_version=PACKER_VERSION, role=role, **attributes)
    if fortran:
        # an archive stores and returns all arrays in C order
        record.attributes["fortran_order"] = fortran
    return record


def unique_names(names: Iterable[str], reserved: Iterable[str] = ()) -> list[str]:
    """Return names with ``~2``, ``~3``, ... appended to repeated ones.

    Parameters
    ----------
    names : iterable of str
    reserved : iterable of str, optional
        Names that may not be in the result.

    Examples
    --------
    >>> unique_names(["w", "w", "w~2", "names"], reserved=["names"])
    ['w', 'w~3', 'w~2', 'names~2']
    """
    names = list(names)
    seen = set(reserved)
    taken = seen.union(names)
    counts: dict[str, int] = {}
    unique = []
    for name in names:
        chosen = name
        if name in seen:
            while chosen in taken:
                counts[name] = counts.get(name, 1) + 1
                chosen = f"{name}~{counts[name]}"
            taken.add(chosen)
        seen.add(name)
        unique.append(chosen)
    return unique


def by_role(records: Records, packer: str) -> dict[str, list[ArrayRecord]]:
    """Return the records that a packer wrote, by role; other records are skipped.

    Raises
    ------
    TypeError
        ``records`` does not hold records by name.
    ValueError
        A record was written by a newer version of the packer.
    """
    if isinstance(records, RecordSet):
        found: Iterable[Any] = records.parameters_records.values()
    elif isinstance(records, Mapping):
        found = records.values()
    else:
        raise TypeError(f"records must be a RecordSet, RecordDict or mapping, not {type(records).__name__}")
    roles: dict[str, list[ArrayRecord]] = {}
    for record in found:
        if not isinstance(record, ArrayRecord) or record.attributes.get("packer") != packer:
            continue
        version = record.attributes.get("packer_version")
        if not isinstance(version, int) or not 1 <= version <= PACKER_VERSION:
            raise ValueError(
                f"{packer} is known up to version {PACKER_VERSION}, but version {version!r} was found"
            )
        roles.setdefault(str(record.attributes.get("role")), []).append(record)
    return roles


def require_role(roles: dict[str, list[ArrayRecord]], packer: str, *wanted: str) -> ArrayRecord:
    """Return the one record that has one of the wanted roles.

    Raises
    ------
    ValueError
        No record has such a role, or several have.
    """
    found = [record for role in wanted for record in roles.get(role, ())]
    if len(found) != 1:
        counts = ", ".join(f"{len(records)} of role {role!r}" for role, records in roles.items())
        raise ValueError(
            f"{packer} needs one record of role {' or '.join(map(repr, wanted))}; found {counts or 'none'}"
        )
    return found[0]


def elements(record: ArrayRecord, keys: Iterable[str] | None = None) -> NDArrays:
    """Return arrays of a record, writable: copied from memory, copy-on-write from a mapped file.

    Parameters
    ----------
    record : ArrayRecord
    keys : iterable of str, optional
        Keys of the arrays, in this order; by default all.

    Raises
    ------
    ValueError
        The record has no such key, or its Array is not a ``.npy``.
    """
    fortran = record.attributes.get("fortran_order", [])
    if not isinstance(fortran, list):
        raise ValueError(f"fortran_order must be a list of names, but {fortran!r} was found")
    transposed = set(fortran)
    arrays = []
    for key in record if keys is None else keys:
        array = record.get(key)
        if array is None:
            raise ValueError(
                f"the record has no array {key!r}; found {', '.join(list(record)[:10]) or 'none'}"
            )
        if array.stype != SType.NUMPY:
            raise ValueError(f"{key!r} must have stype {SType.NUMPY!r}, but {array.stype!r} was found")
        found = array.numpy() if has_own_elements(array) else array.payload.writable()
        arrays.append(np.asfortranarray(found) if key in transposed else found)
    return arrays


def is_fortran(array: NDArray) -> bool:
    """Return whether ``np.save`` writes an array in Fortran order."""
    return array.flags.f_contiguous and not array.flags.c_contiguous
