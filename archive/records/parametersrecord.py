"""ParametersRecord: the old name of ArrayRecord, with its old defaults."""

from __future__ import annotations

import warnings
from collections.abc import MutableMapping
from typing import ClassVar

from archive.records.array import Array
from archive.records.arraychecks import require_arrays
from archive.records.arrayrecord import ArrayRecord

__all__ = ["ParametersRecord"]


class ParametersRecord(ArrayRecord):
    """The name of ArrayRecord in Flower until 1.16, with its behaviour of then.

    Parameters
    ----------
    array_dict : dict of str to Array, optional
        The record keeps these Array objects and makes no new ones.
    keep_input : bool, default False
        False removes each key from ``array_dict`` after the record took it.

    Raises
    ------
    TypeError
        A key is not a str or a value not an Array; nothing was removed.

    Warns
    -----
    DeprecationWarning
        Once in a process: new code uses ArrayRecord.

    Examples
    --------
    >>> import numpy as np
    >>> arrays = {"w": Array(np.zeros(2))}
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", DeprecationWarning)
    ...     record = ParametersRecord(arrays)
    >>> list(record), arrays
    (['w'], {})
    """

    _warned: ClassVar[bool] = False

    def __init__(
        self, array_dict: MutableMapping[str, Array] | None = None, keep_input: bool = False
    ) -> None:
        super().__init__()
        if not ParametersRecord._warned:
            ParametersRecord._warned = True
            warnings.warn(
                "ParametersRecord is the old name of ArrayRecord, which keeps its input by default",
                DeprecationWarning,
                stacklevel=2,
            )
        if array_dict is None:
            return
        require_arrays(array_dict)
        for key in list(array_dict):
            self._data[key] = array_dict[key] if keep_input else array_dict.pop(key)
