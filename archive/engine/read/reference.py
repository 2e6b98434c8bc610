"""What a pickle holds of an open archive: where its version is found again, and never its bytes or a secret.

An archive is opened when something of it is first used, not while it is unpickled: an error then would be
nobody's, and a pool of processes would wait for ever for the task that was lost with it.
"""

from __future__ import annotations

import copyreg
import errno
import os
import weakref
from typing import Any

from archive.engine.read.open import open_reader
from archive.engine.read.reader import Reader
from archive.errors import ClosedError, ReplacedError
from archive.storage.url import Location

__all__ = ["Reference", "reference_of"]

Arguments = tuple[Location, str, str, bool, bytes]


class Reference:
    """One version of an archive, opened when it is first used.

    Parameters
    ----------
    location : Location
    access, verify : str
    writable : bool
    identity : bytes
        Of the reader whose archive it is.
    """

    def __init__(self, location: Location, access: str, verify: str, writable: bool, identity: bytes) -> None:
        self.arguments: Arguments = location, access, verify, writable, identity
        self.path: str = location.display
        """For messages."""
        self.closed: bool = False
        self._readers: list[Reader] = []

    def open(self) -> Reader:
        """Return a reader, the same each time.

        Raises
        ------
        ReplacedError
            The file is another version by now.
        ArchiveError
            As for `open_reader`.
        """
        if self.closed:
            raise ClosedError("the archive is closed", path=self.path, remedy="open it again")
        if not self._readers:
            self._readers.append(self._find())  # of two threads that open it the first is followed
        return self._readers[0]

    def close(self) -> None:
        """Never open it."""
        self.closed = True

    def _find(self) -> Reader:
        location, access, verify, writable, identity = self.arguments
        reader = open_reader(location, access=access, verify=verify, writable=writable)
        if reader.identity == identity:
            return reader
        reader.close()
        raise ReplacedError(
            "the file was replaced by another version since this handle was pickled",
            path=self.path,
            errno=errno.ESTALE,
            remedy="open it again and take the arrays from there",
        )

    @property
    def token(self) -> tuple[str, str]:
        """Address without secrets, and digest of the footer: equal for one version at one address."""
        return self.path, self.arguments[-1].hex()

    def __reduce__(self) -> tuple[Any, ...]:
        return _shared, self.arguments


def reference_of(held: Reader | Reference) -> Reference:
    """Return what finds the same version again; a reference as it is.

    Raises
    ------
    TypeError
        The file is not an archive.
    """
    if isinstance(held, Reference):
        return held
    if not held.identity:
        raise TypeError("a foreign file has no digest to find it again by; save it as an archive first")
    location = held.location if held.location is not None else Location(held.path)
    return Reference(location, held.access, held.verify, held.writable, held.identity)


# By process, address and version: 289 arrays of one archive that cross to another process share one file
# descriptor and one map there.
_references: weakref.WeakValueDictionary[tuple[Any, ...], Reference] = weakref.WeakValueDictionary()


def _shared(location: Location, *how: Any) -> Reference:
    """Unpickle a reference: arrays of one archive share a reader in the process they come to."""
    key = (os.getpid(), location.path, repr(location.options), location.cache, *how)
    reference = _references.get(key)
    if reference is None:
        reference = _references[key] = Reference(location, *how)
    return reference


copyreg.pickle(Reader, lambda reader: reference_of(reader).__reduce__())
