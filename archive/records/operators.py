"""Python's operators on an Array: those of numpy on its elements. Results are plain numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from archive.dtypes import NDArray
from archive.records.tensors import is_tensor

__all__ = ["ArrayOperators"]


def _binary(ufunc: np.ufunc, left: Any, right: Any, other: object) -> Any:
    """Return what an operator of two operands makes; NotImplemented where the other one wants no numpy."""
    return NotImplemented if _declines(other) else ufunc(left, right)


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

    # written out: type checkers infer nothing of methods that a function makes

    def __add__(self, other: Any) -> Any:
        return _binary(np.add, self, other, other)

    def __radd__(self, other: Any) -> Any:
        return _binary(np.add, other, self, other)

    def __sub__(self, other: Any) -> Any:
        return _binary(np.subtract, self, other, other)

    def __rsub__(self, other: Any) -> Any:
        return _binary(np.subtract, other, self, other)

    def __mul__(self, other: Any) -> Any:
        return _binary(np.multiply, self, other, other)

    def __rmul__(self, other: Any) -> Any:
        return _binary(np.multiply, other, self, other)

    def __matmul__(self, other: Any) -> Any:
        return _binary(np.matmul, self, other, other)

    def __rmatmul__(self, other: Any) -> Any:
        return _binary(np.matmul, other, self, other)

    def __truediv__(self, other: Any) -> Any:
        return _binary(np.true_divide, self, other, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _binary(np.true_divide, other, self, other)

    def __floordiv__(self, other: Any) -> Any:
        return _binary(np.floor_divide, self, other, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _binary(np.floor_divide, other, self, other)

    def __mod__(self, other: Any) -> Any:
        return _binary(np.remainder, self, other, other)

    def __rmod__(self, other: Any) -> Any:
        return _binary(np.remainder, other, self, other)

    def __divmod__(self, other: Any) -> Any:
        return _binary(np.divmod, self, other, other)

    def __rdivmod__(self, other: Any) -> Any:
        return _binary(np.divmod, other, self, other)

    def __pow__(self, other: Any) -> Any:
        return _binary(np.power, self, other, other)

    def __rpow__(self, other: Any) -> Any:
        return _binary(np.power, other, self, other)

    def __lshift__(self, other: Any) -> Any:
        return _binary(np.left_shift, self, other, other)

    def __rlshift__(self, other: Any) -> Any:
        return _binary(np.left_shift, other, self, other)

    def __rshift__(self, other: Any) -> Any:
        return _binary(np.right_shift, self, other, other)

    def __rrshift__(self, other: Any) -> Any:
        return _binary(np.right_shift, other, self, other)

    def __and__(self, other: Any) -> Any:
        return _binary(np.bitwise_and, self, other, other)

    def __rand__(self, other: Any) -> Any:
        return _binary(np.bitwise_and, other, self, other)

    def __or__(self, other: Any) -> Any:
        return _binary(np.bitwise_or, self, other, other)

    def __ror__(self, other: Any) -> Any:
        return _binary(np.bitwise_or, other, self, other)

    def __xor__(self, other: Any) -> Any:
        return _binary(np.bitwise_xor, self, other, other)

    def __rxor__(self, other: Any) -> Any:
        return _binary(np.bitwise_xor, other, self, other)

    def __lt__(self, other: Any) -> Any:
        return _binary(np.less, self, other, other)

    def __le__(self, other: Any) -> Any:
        return _binary(np.less_equal, self, other, other)

    def __gt__(self, other: Any) -> Any:
        return _binary(np.greater, self, other, other)

    def __ge__(self, other: Any) -> Any:
        return _binary(np.greater_equal, self, other, other)

    def __neg__(self) -> Any:
        return np.negative(self)

    def __pos__(self) -> Any:
        return np.positive(self)

    def __abs__(self) -> Any:
        return np.absolute(self)

    def __invert__(self) -> Any:
        return np.invert(self)
