"""Compares every byte of an archive with its digest, and checks what the bytes mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archive.engine.progress import Bar, Progress, Report
from archive.engine.read.handle import Archive
from archive.engine.read.open import open_reader
from archive.engine.report import VerifyReport
from archive.storage.url import URL, Cache, Location, parse_url

__all__ = ["verify", "verify_place"]


def verify(
    url: URL,
    *,
    progress: Progress = None,
    cache: Cache = None,
    cache_bytes: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> VerifyReport:
    """Compare every byte of an archive with its digest, and check what the bytes mean.

    Documents, values and texts are checked by the rules of the format, which a writer may break with every
    digest right ([VERIFY-3]). The HDF5 tree, which other tools read, is compared with the index ([VERIFY-4]).

    With ``cache`` (and ``cache_bytes``), as for `open`, cached bytes are verified, and fetched again where
    they do not match.

    Returns
    -------
    VerifyReport
        Damaged arrays and invalid content are listed, not raised.

    Raises
    ------
    As `open`, where the file cannot even be opened, and VersionError for values that only a later version
    knows.

    Examples
    --------
    >>> import archive, numpy as np
    >>> _ = archive.save({"w": np.arange(6.0)}, "/tmp/fedarchive-verification.h5")
    >>> bool(archive.verify("/tmp/fedarchive-verification.h5"))
    True
    """
    location = parse_url(url, storage_options, cache, cache_bytes)
    with Bar(progress, f"verifying {location.name}") as report:
        return verify_place(location, report)


def verify_place(location: Location, progress: Report | None = None) -> VerifyReport:
    """Do the same for a location."""
    with Archive(open_reader(location, access="auto", verify="first")) as handle:
        return handle.verify(progress=progress)
