"""The tree of errors: which builtin each is, what a message says, and that both survive pickling."""

from __future__ import annotations

import copy
import errno
import os
import pickle

import pytest

from archive import errors
from archive.errors import ArchiveError

BUILTIN = {
    "NotAnArchiveError": ValueError,
    "TruncatedError": EOFError,
    "VersionError": ValueError,
    "DamagedError": ValueError,
    "DigestError": ValueError,
    "HostileFileError": ValueError,
    "PartialSaveError": ArchiveError,
    "ClosedError": ValueError,
    "UnsupportedDtypeError": TypeError,
    "ValueRangeError": ValueError,
    "UnsupportedURLError": ValueError,
    "MissingError": FileNotFoundError,
    "ExistsError": FileExistsError,
    "LockedError": OSError,
    "ReplacedError": OSError,
    "StorageError": OSError,
    "NonFiniteError": ValueError,
}
WARNINGS = ["ArchiveWarning", "CatalogueWarning", "NonFiniteWarning", "SkippedWarning"]
SYSTEM = ["MissingError", "ExistsError", "LockedError", "ReplacedError", "StorageError"]


def test_the_tree_is_complete() -> None:
    assert {*BUILTIN, "ArchiveError", *WARNINGS} == set(errors.__all__)
    assert errors.DigestError.__mro__[1] is errors.DamagedError


@pytest.mark.parametrize("name", WARNINGS)
def test_warnings_are_caught_together(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.ArchiveWarning)
    assert issubclass(kind, UserWarning)
    assert not issubclass(kind, ArchiveError)


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_base_and_message(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, (ArchiveError, BUILTIN[name]))
    assert issubclass(kind, ArchiveError)
    assert issubclass(kind, BUILTIN[name])
    error = kind("it broke", path="/a/m.h5", offset=96, key="model/w", remedy="fetch it again")
    assert str(error) == "/a/m.h5: 'model/w': it broke (at byte 96); fetch it again"
    assert str(kind("it broke")) == "it broke"
    with pytest.raises(BUILTIN[name]):
        raise error


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["ArchiveError", *BUILTIN])
def test_pickled_and_copied(name: str, protocol: int) -> None:
    arguments: dict[str, object] = {"path": "/a/m.h5", "offset": 0, "key": "k", "remedy": "r"}
    if name in SYSTEM:
        arguments["errno"] = errno.EDQUOT
    error = getattr(errors, name)("it broke", **arguments)
    for again in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args == error.args
        assert {field: getattr(again, field) for field in arguments} == arguments


@pytest.mark.parametrize("name", SYSTEM)
def test_system_errors_carry_their_errno(name: str) -> None:
    error = getattr(errors, name)("it broke", path="/a/m.h5", errno=errno.ENOSPC)
    assert (error.errno, error.filename) == (errno.ENOSPC, "/a/m.h5")
    assert error.strerror == os.strerror(errno.ENOSPC)
    assert getattr(errors, name)("it broke").errno is None


def test_offset_zero_and_empty_key_are_said() -> None:
    assert str(ArchiveError("bad", offset=0, key="")) == "'': bad (at byte 0)"
