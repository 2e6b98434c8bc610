"""Parsing of the parts of a packed list, with errors that name the invalid part."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from archive.dtypes import NDArray

__all__ = ["NDArray", "NDArrays", "names_to_ndarray", "parse_list", "parse_names", "split_last"]

NDArrays: TypeAlias = list[NDArray]


def parse_list(arrays: object, what: str) -> NDArrays:
    """Return a new list of the same arrays.

    Parameters
    ----------
    arrays : list of ndarray
        numpy scalars are allowed: averaging turns 0-d weights into them.
    what : str
        Name of the list in messages.

    Raises
    ------
    TypeError
        Not a list of arrays.

    Examples
    --------
    >>> parse_list([np.zeros(2), "w"], "model_weights")
    Traceback (most recent call last):
    TypeError: model_weights must be a list of ndarrays, not with str at position 1
    """
    if not isinstance(arrays, list):
        raise TypeError(f"{what} must be a list of ndarrays, not {_kind(arrays)}")
    for position, array in enumerate(arrays):
        if not isinstance(array, (np.ndarray, np.generic)):
            raise TypeError(
                f"{what} must be a list of ndarrays, not with {_kind(array)} at position {position}"
            )
    return list(arrays)


def split_last(packed_parameters: object, what: str) -> tuple[NDArrays, NDArray]:
    """Return all arrays of a packed list but the last, and the last.

    Raises
    ------
    TypeError
        Not a list of ndarrays.
    ValueError
        The list is empty.

    Examples
    --------
    >>> split_last([], "a clipping bit or bound")
    Traceback (most recent call last):
    ValueError: packed_parameters must end with a clipping bit or bound, but is empty
    """
    arrays = parse_list(packed_parameters, "packed_parameters")
    if not arrays:
        raise ValueError(f"packed_parameters must end with {what}, but is empty")
    return arrays[:-1], arrays[-1]


def names_to_ndarray(names: object, what: str) -> NDArray:
    """Return names as they are packed: 1-D text as wide as the longest; float64 for an empty list.

    Raises
    ------
    TypeError
        Not a list or tuple of str.
    ValueError
        A name ends with NUL, which numpy's text would drop.

    Examples
    --------
    >>> names_to_ndarray(["fc.weight", "fc.bias"], "names")
    array(['fc.weight', 'fc.bias'], dtype='<U9')
    >>> names_to_ndarray([], "names")
    array([], dtype=float64)
    """
    if not isinstance(names, (list, tuple)):
        raise TypeError(f"{what} must be a list of str, not {_kind(names)}")
    for position, name in enumerate(names):
        if not isinstance(name, str):
            raise TypeError(f"{what} must be a list of str, not with {_kind(name)} at position {position}")
        if name.endswith("\0"):
            raise ValueError(
                f"{what}: {name[:80]!r} at position {position} ends with NUL, which would be lost"
            )
    return np.array(names)


def parse_names(array: NDArray, count: int | None = None) -> list[str]:
    """Return the names in the last array of a packed list.

    Parameters
    ----------
    array : ndarray
        1-D text; any type where it is empty.
    count : int, optional
        Number of names that there must be.

    Raises
    ------
    TypeError
        The elements are not text.
    ValueError
        Not 1-D, or another number of names.

    Examples
    --------
    >>> parse_names(np.zeros(0)), parse_names(np.array(["a", "b"]))
    ([], ['a', 'b'])
    """
    if array.ndim != 1:
        raise ValueError(f"names must be a 1-D array, but one of shape {array.shape} was found")
    if array.size and array.dtype.kind != "U":
        raise TypeError(f"names must be an array of text, but one of dtype {array.dtype} was found")
    if count is not None and array.size != count:
        raise ValueError(f"there must be as many names as arrays: found {array.size} names, {count} arrays")
    names: list[str] = array.tolist()
    return names


def _kind(value: object) -> str:
    return type(value).__name__
