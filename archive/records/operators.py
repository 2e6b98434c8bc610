"""Python's operators on an Array: those of numpy on its elements. Results are plain numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.records.tensors import is_tensor

__all__ = ["ArrayOperators"]

Operator = Callable[[Any, Any], Any]


def _binary(ufunc: np.ufunc) -> Operator:
    """Return the method of an operator."""

    def operate(self: ArrayOperators, other: Any) -> Any:
        return NotImplemented if _declines(other) else ufunc(self, other)

    return operate


def _reflected(ufunc: np.ufunc) -> Operator:
    """Return the method of an operator whose right side is the Array."""

    def operate(self: ArrayOperators, other: Any) -> Any:
        return NotImplemented if _declines(other) else ufunc(other, self)

    return operate


def _unary(ufunc: np.ufunc) -> Callable[[Any], Any]:
    def operate(self: ArrayOperators) -> Any:
        return ufunc(self)

    return operate


def _declines(other: object) -> bool:
    """Return whether an operand wants no numpy: its own operator is asked then."""
    return getattr(other, "__array_ufunc__", True) is None


class ArrayOperators:
    """Operators that read the elements, and never write them.

    ``array += 1`` makes a new numpy array, as ``array + 1`` does. ``==`` and ``!=`` are not among them: they
    say whether dtype, shape, stype and data of two Arrays are equal, as in Flower; ``numpy.equal`` compares
    element by element. An Array is always true, as Flower's is.

    Examples
    --------
    >>> import archive, numpy as np
    >>> array = archive.Array(np.arange(4.0).reshape(2, 2))
    >>> array + 1, array @ np.ones(2), -array[0]
    (array([[1., 2.],
           [3., 4.]]), array([1., 5.]), array([-0., -1.]))
    >>> float(np.mean(array)), bool((array < 4).all()), np.equal(array, 3).tolist(), len(array)
    (1.5, True, [[False, False], [False, True]], 2)
    """

    __slots__ = ()

    __array__: Callable[..., NDArray]
    shape: tuple[int, ...]

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Return the result of a function of numpy on the elements.

        Raises
        ------
        TypeError
            An Array is to be written to (``out=``), or another operand is a tensor.
        """
        outputs = options.get("out", ())
        if any(isinstance(output, ArrayOperators) for output in outputs) or (
            method == "at" and isinstance(inputs[0], ArrayOperators)
        ):
            raise TypeError("an Array cannot be written to: take numpy(copy=True) and write to that")
        where = options.get("where")
        if any(map(is_tensor, (*inputs, *outputs, where))):
            raise TypeError(
                f"numpy.{ufunc.__name__} of an Array and a tensor: take torch() of the Array, "
                "or numpy() of the tensor"
            )
        if isinstance(where, ArrayOperators):
            options["where"] = where.__array__()
        elements = [value.__array__() if isinstance(value, ArrayOperators) else value for value in inputs]
        return getattr(ufunc, method)(*elements, **options)

    def __len__(self) -> int:
        """Return the length of the first axis; TypeError where there is none."""
        if not self.shape:
            raise TypeError("len() of an Array without axes")
        return self.shape[0]

    def __bool__(self) -> bool:
        """Return True: an Array is no list that may be empty, and no number."""
        return True

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the first axis: of an archive, all elements are read at once."""
        if not self.shape:
            raise TypeError("an Array without axes cannot be iterated over")
        return iter(self.__array__())

    def __contains__(self, value: object) -> bool:
        """Return whether an element is equal to a value."""
        return value in self.__array__()

    def __float__(self) -> float:
        """Return the only element; TypeError where there are axes."""
        return float(self.__array__())

    def __int__(self) -> int:
        """Return the only element; TypeError where there are axes."""
        return int(self.__array__())

    def __complex__(self) -> complex:
        """Return the only element; TypeError where there are axes."""
        return complex(self.__array__())

    __add__, __radd__ = _binary(np.add), _reflected(np.add)
    __sub__, __rsub__ = _binary(np.subtract), _reflected(np.subtract)
    __mul__, __rmul__ = _binary(np.multiply), _reflected(np.multiply)
    __matmul__, __rmatmul__ = _binary(np.matmul), _reflected(np.matmul)
    __truediv__, __rtruediv__ = _binary(np.true_divide), _reflected(np.true_divide)
    __floordiv__, __rfloordiv__ = _binary(np.floor_divide), _reflected(np.floor_divide)
    __mod__, __rmod__ = _binary(np.remainder), _reflected(np.remainder)
    __divmod__, __rdivmod__ = _binary(np.divmod), _reflected(np.divmod)
    __pow__, __rpow__ = _binary(np.power), _reflected(np.power)
    __lshift__, __rlshift__ = _binary(np.left_shift), _reflected(np.left_shift)
    __rshift__, __rrshift__ = _binary(np.right_shift), _reflected(np.right_shift)
    __and__, __rand__ = _binary(np.bitwise_and), _reflected(np.bitwise_and)
    __or__, __ror__ = _binary(np.bitwise_or), _reflected(np.bitwise_or)
    __xor__, __rxor__ = _binary(np.bitwise_xor), _reflected(np.bitwise_xor)
    __lt__, __le__ = _binary(np.less), _binary(np.less_equal)
    __gt__, __ge__ = _binary(np.greater), _binary(np.greater_equal)
    __neg__, __pos__ = _unary(np.negative), _unary(np.positive)
    __abs__, __invert__ = _unary(np.absolute), _unary(np.invert)
