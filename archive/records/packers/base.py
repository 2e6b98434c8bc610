"""ParameterPacker: the methods of every packer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from archive.records.packers.lists import NDArrays

__all__ = ["ParameterPacker"]

T = TypeVar("T")


class ParameterPacker(ABC, Generic[T]):
    """Puts weights and a ``T`` into one list of ndarrays, and separates them again.

    Follows FL4Health's class of that name. Both directions work on lists only: new lists of the same
    array objects; the arguments stay as they are. A packer of this package also has ``to_records``, which
    gives every part of a packed list a name in an archive, and ``from_records``, its reverse.

    Examples
    --------
    >>> import numpy as np
    >>> class Packer(ParameterPacker[int]):
    ...     def pack_parameters(self, model_weights, additional_parameters):
    ...         return [*model_weights, np.array(additional_parameters)]
    ...
    ...     def unpack_parameters(self, packed_parameters):
    ...         return packed_parameters[:-1], int(packed_parameters[-1])
    >>> packer = Packer()
    >>> packer.unpack_parameters(packer.pack_parameters([], 3))
    ([], 3)
    """

    @abstractmethod
    def pack_parameters(self, model_weights: NDArrays, additional_parameters: T) -> NDArrays:
        """Return one list of the weights and the additional parameters."""

    @abstractmethod
    def unpack_parameters(self, packed_parameters: NDArrays) -> tuple[NDArrays, T]:
        """Return the weights and the additional parameters of a packed list."""
