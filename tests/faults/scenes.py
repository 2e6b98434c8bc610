"""What the fault tests share: archives of known content, and what may be found after a fault."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import archive
import archive.tools
from archive.engine.report import SaveReport
from archive.errors import ArchiveError
from archive.types import Access

CREATED = "2026-01-01T00:00:00Z"
"""A fixed time of creation: equal content gives equal bytes."""
SMALL, LARGE = 1 << 10, 5 << 19
"""float64 elements of the large array: 8 KiB (no writing thread) and 20 MiB (with one)."""
LITTER = re.compile(r"\..+\.([0-7]|[0-9a-f]{16})\.tmp")


def content(version: int, size: int = SMALL) -> dict[str, np.ndarray[Any, Any]]:
    """Return arrays that tell their version by every element."""
    return {
        "w": np.full(size, version, "<f8"),
        "b": np.full((3, 5), version, "<i4"),
        "f": np.asfortranarray(np.full((4, 6), version, "<f4")),
        "t": np.array([f"version {version}"] * 7),
    }


def save(path: Path | str, version: int, size: int = SMALL, **options: Any) -> SaveReport:
    """Save a version."""
    return archive.save(
        content(version, size), path, metrics={"told": {"v": version}}, created=CREATED, **options
    )


def edit(path: Path | str, version: int, size: int = SMALL) -> SaveReport:
    """Edit an archive so that its path has a version: in place, or from its base where there is one."""
    base = base_of(path)
    with archive.tools.edit(*((base, path) if base.exists() else (path,))) as e:
        for key, array in content(version, size).items():
            if key != "w" or not base.exists():
                e["model", key] = array
        e.metrics["told"]["v"] = version
    return e.report


def base_of(path: Path | str) -> Path:
    """Return where the base of an archive lies: the next version of its large array is there already."""
    return Path(path).parent.with_name(f"{Path(path).parent.name}-base.h5")


def save_base(path: Path | str, version: int, size: int) -> None:
    """Save a version whose large array is that of the next."""
    arrays = content(version, size) | {"w": content(version + 1, size)["w"]}
    archive.save(arrays, base_of(path), metrics={"told": {"v": version}}, created=CREATED, durable=False)


def layers() -> dict[str, np.ndarray[Any, Any]]:
    """Return ten arrays that tell which they are by every element."""
    return {f"layer{number}": np.full(300, number, "<f8") for number in range(10)}


def consume(path: Path | str, arrived: int | None = None, **options: Any) -> SaveReport:
    """Save `layers`, consuming them; with a number, fail after so many."""

    def pairs() -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        yield from itertools.islice(layers().items(), arrived)
        if arrived is not None:
            raise RuntimeError("no more")

    return archive.save(pairs(), path, keep_input=False, created=CREATED, **options)


def recovered(partial: Path) -> int | None:
    """Recover what a cut left; return how many of `layers` came back, each compared, None for an error."""
    try:
        records = archive.recover(partial)
    except ArchiveError:
        return None
    arrays = dict(records.array_records["model"]) if "model" in records else {}
    wanted = list(layers().items())[: len(arrays)]
    assert list(arrays) == [key for key, _ in wanted]
    assert all(np.array_equal(arrays[key].numpy(), array) for key, array in wanted)
    return len(arrays)


def bytes_of(version: int, folder: Path, size: int = SMALL) -> bytes:
    """Return the bytes that saving a version gives."""
    path = folder / f"reference-{version}-{size}.h5"
    save(path, version, size, durable=False)
    data = path.read_bytes()
    path.unlink()
    return data


def version_of(path: Path | str, *, access: Access = "auto", whole: bool = True) -> int:
    """Return the version that an archive holds; every array is read, compared and (whole) verified."""
    with archive.open(path, access=access) as handle:
        found = handle.records
        version = found.metrics_records["told"]["v"]
        assert isinstance(version, int)
        arrays = {key: array.numpy() for key, array in found.parameters_records["model"].items()}
        wanted = content(version, arrays["w"].size)
        assert list(arrays) == list(wanted)
        for key, array in wanted.items():
            assert arrays[key].dtype == array.dtype
            assert np.array_equal(arrays[key], array), f"{key} of version {version}"
        assert not whole or handle.verify().ok
    return version


def litter(folder: Path, *published: str) -> list[str]:
    """Return names in a folder that were not published."""
    return sorted(set(os.listdir(folder)) - set(published))
