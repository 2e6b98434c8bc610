"""Rules of the format that are broken though every digest holds, in documents, values and text ([VERIFY-3]).

Opening an archive does not look at these: each is checked where it is handed out. Verifying looks at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from archive import tuning
from archive.descriptions import parse_description
from archive.engine.read.containers import build_context, build_records
from archive.engine.read.reader import Reader
from archive.engine.read.storedpayload import elements_of
from archive.engine.report import Failure
from archive.errors import DigestError, HostileFileError
from archive.format.constants import MODE_TEXT, NO_ALIAS
from archive.records import Array

__all__ = ["content_failures"]


def content_failures(reader: Reader, values_at: int, damaged: Collection[tuple[str, str]]) -> list[Failure]:
    """Return what is invalid in an archive whose digests hold, but for arrays that are known to be damaged.

    Parameters
    ----------
    reader : Reader
    values_at : int
        Offset of the values section.
    damaged : collection of (str, str)
        Records and keys of arrays whose bytes do not match.

    Raises
    ------
    DigestError
        The bytes of a value changed since they were compared.
    VersionError
        A later version of the format wrote the document: what it means is not known here.
    StorageError
        The document takes more memory than `archive.tuning.json_bytes` allows.
    """
    failures = []
    try:
        # one value that is a dataset at a time is in memory
        records = build_records(reader, lambda rows: [_NO_ARRAY] * len(rows), datasets="check")
        if reader.values.text_of("container") == "context":
            build_context(reader, records)
    except HostileFileError as error:
        at = values_at if error.offset is None else error.offset
        where = f", of {error.key!r}" if error.key is not None else ""
        failures.append(Failure("", "document", 0, at, f"{error.problem}{where}", bytes_match=True))
    except DigestError as error:  # of a value that is a dataset, which was reported
        if error.key not in {f"{record}/{key}" for record, key in damaged}:
            raise
    failures.extend(_text_failures(reader, damaged))
    return failures


def _text_failures(reader: Reader, damaged: Collection[tuple[str, str]]) -> Iterator[Failure]:
    index = reader.index
    of_text = np.array([kind.mode == MODE_TEXT for kind in index.types], bool)
    rows = np.flatnonzero(of_text[index.type] & (index.alias_of == NO_ALIAS)) if of_text.any() else ()
    for row in map(int, rows):
        record, key = index.records[int(index.record[row])].name, index.key(row)
        if (record, key) in damaged:
            continue
        kind, nbytes = index.types[int(index.type[row])], int(index.stored_nbytes[row])
        # an element may be 256 times as wide as its text
        step = max(1, tuning.SCAN_BYTES // parse_description(kind.description).itemsize) * kind.itemsize
        for start in range(0, nbytes, step):
            stored = reader.stored_range(row, start, min(start + step, nbytes))
            try:
                elements_of(kind, (len(stored) // kind.itemsize,), stored)
            except ValueError as error:
                yield Failure(record, key, 0, int(index.offset[row]), str(error), bytes_match=True)
                break


_NO_ARRAY = Array("uint8", (0,), "", b"")
"""In the place of every array: only the values matter."""
