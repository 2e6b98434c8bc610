"""The types in which elements are added up, and the addition itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from archive import tuning
from archive.dtypes import NDArray
from archive.engine.storagespec import StorageSpec, elements_spec
from archive.tools.sameschema import Template

__all__ = ["add_product", "narrowed", "real_dtype", "wide_dtype", "wide_spec", "wide_specs"]


def wide_specs(template: Template) -> list[StorageSpec]:
    """Return the storage spec of the sum of each array."""
    specs = []
    for dtype, shape, spec in zip(template.dtypes, template.shapes, template.specs(), strict=True):
        if dtype is None:
            specs.append(spec)
            continue
        specs.append(wide_spec(dtype, shape))
    return specs


def wide_spec(dtype: np.dtype[Any], shape: tuple[int, ...]) -> StorageSpec:
    """Return the storage spec of the sum of arrays of a type and shape."""
    wide = wide_dtype(dtype)
    return elements_spec(np.dtype(f"c{2 * wide.itemsize}") if dtype.kind == "c" else wide, shape, False)


def real_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of real and imaginary part; of a real type the type itself."""
    return np.dtype(f"{dtype.byteorder}f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


def wide_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the real type in which elements are added up."""
    real = real_dtype(dtype)
    if real.kind == "f" and real.type.__module__ == "numpy":
        return np.result_type(real.newbyteorder("="), np.float64)  # longdouble keeps its digits
    return np.dtype(np.float64)


def add_product(total: NDArray, values: NDArray, weight: float) -> None:
    """Add the products of values and a weight to a total.

    A block at a time stays in the processor's cache: 1 Mi float32 take 0.5 ms. ``weight * value`` would be
    float32.
    """
    step = tuning.MEAN_BLOCK
    # times 1 changes nothing; numpy cannot add bfloat16 and float8 to a wider total
    plain = weight == 1.0 and values.dtype.type.__module__ == "numpy"
    product = np.empty(0 if plain else min(step, len(total)), total.dtype)
    for low in range(0, len(total), step):
        part, source = total[low : low + step], values[low : low + step]
        if plain:
            np.add(part, source, out=part)
        else:
            made = product[: len(part)]
            np.copyto(made, source, casting="unsafe")
            made *= weight
            part += made


def narrowed(total: NDArray, dtype: np.dtype[Any]) -> NDArray:
    """Return a float64 or longdouble total as a type, rounded once to the nearest, ties to even.

    ml_dtypes rounds to float32 first: what is a little more than half way to the next bfloat16 became half
    way, and then the even one, which may be the farther. A float32 that is cut off, and odd where anything
    was cut, is on the right side of half way.
    """
    if dtype.type.__module__ == "numpy":
        return total.astype(dtype)
    made = np.empty(len(total), dtype)
    for low in range(0, len(total), tuning.MEAN_BLOCK):
        exact = total[low : low + tuning.MEAN_BLOCK]
        single = exact.astype(np.float32)
        bits = single.view(np.uint32)
        cut = (single != exact) & ~np.isnan(exact)
        bits -= np.abs(single) > np.abs(exact)
        bits |= cut
        made[low : low + tuning.MEAN_BLOCK] = single
    return made
