"""Names of files in a store.

``rounds/00000003.h5``, ``rounds/00000003/CLIENT.h5``, ``contexts/NODE.h5``. A file of a client is never
replaced: where its name is taken, the next is ``CLIENT==WRITE.h5``, with 16 random hex digits. Names of
clients and nodes are spelled so that every storage keeps them apart: file systems that ignore case or
normalise Unicode, and object stores that give ``%`` and ``~`` a meaning.
"""

from __future__ import annotations

import hashlib
import operator
import re

from archive.errors import ValueRangeError

__all__ = [
    "CHECKPOINT",
    "client_path",
    "context_path",
    "is_write",
    "parse_client",
    "parse_round",
    "require_experiment",
    "require_name",
    "require_round",
    "round_path",
    "spell",
    "unspell",
]

CHECKPOINT = "fedarchive.checkpoint"
"""Config record of round and client files: ``round``; of a round ``clients`` (as `spell` has them),
``digests`` and, unless all are empty, ``writes``; of a client ``client`` and, unless empty, ``write``."""
RUN_FOLDERS = ("rounds", "contexts")
"""Folders by which a run is recognised."""
MAX_ROUND = 99_999_999
MAX_STEM = 128
"""Characters of a file name before ``.h5``: eCryptfs takes 143 in all."""

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-.")
_SPELLED = re.compile(r"(?:[a-z0-9_.-]|=[0-9a-f]{2})+")
_WRITE = re.compile(r"(?:[0-9a-f]{16})?")
_ROUND = re.compile(r"([0-9]{8})\.h5")
_CLIENT = re.compile(r"([0-9]{8})/([^/]+)\.h5")


def spell(name: str) -> str:
    """Return a name in lower-case letters, digits, ``_``, ``-``, ``.`` and ``=`` with two hex digits.

    Two names are never spelled alike, none begins with a dot, and the empty one is ``=``.

    Examples
    --------
    >>> spell("client-7"), spell("Müller/A"), spell("..")
    ('client-7', '=4d=c3=bcller=2f=41', '=2e.')
    """
    encoded = name.encode("utf-8", "surrogatepass")
    spelled = "".join(chr(byte) if byte in _PLAIN else f"={byte:02x}" for byte in encoded)
    if not spelled:
        return "="
    return f"=2e{spelled[1:]}" if spelled[0] == "." else spelled


def unspell(spelled: str) -> str:
    """Return the name that `spell` was given.

    Raises
    ------
    ValueRangeError
        `spell` returns no such text.

    Examples
    --------
    >>> unspell("=4d=c3=bcller=2f=41")
    'Müller/A'
    """
    if spelled == "=":
        return ""
    if not _SPELLED.fullmatch(spelled):
        raise ValueRangeError("invalid name of a client", key=spelled[:80])
    parts = re.split(r"=([0-9a-f]{2})", spelled)
    encoded = b"".join(
        bytes.fromhex(part) if place % 2 else part.encode() for place, part in enumerate(parts)
    )
    try:
        return encoded.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise ValueRangeError("invalid name of a client", key=spelled[:80]) from error


def round_path(number: int) -> str:
    """Return the path of a round file in its store."""
    return f"rounds/{number:08d}.h5"


def client_path(number: int, spelled: str, write: str = "") -> str:
    """Return the path of a client's file in its store; ``write`` where that name was taken.

    Examples
    --------
    >>> client_path(3, "client-7"), client_path(3, "client-7", "0123456789abcdef")
    ('rounds/00000003/client-7.h5', 'rounds/00000003/client-7==0123456789abcdef.h5')
    """
    return f"rounds/{number:08d}/{_stem(f'{spelled}=={write}' if write else spelled)}.h5"


def context_path(node: str) -> str:
    """Return the path of a node's context in its store."""
    return f"contexts/{_stem(spell(node))}.h5"


def is_write(text: object) -> bool:
    """Return whether this is the part of a name that keeps files of one client apart."""
    return isinstance(text, str) and _WRITE.fullmatch(text) is not None


def parse_round(path: str) -> int | None:
    """Return the number of a round by its path below ``rounds``; None for any other file."""
    match = _ROUND.fullmatch(path)
    return int(match[1]) if match else None


def parse_client(path: str) -> tuple[int, str] | None:
    """Return round and stem of a client's file by its path below ``rounds``; None for any other."""
    match = _CLIENT.fullmatch(path)
    return (int(match[1]), match[2]) if match and not match[2].startswith(".") else None


def require_round(number: object) -> int:
    """Return the number of a round.

    Raises
    ------
    TypeError, ValueError
        ``number`` is not an integer from 0 to 99,999,999.
    """
    if isinstance(number, bool):
        raise TypeError("a round is an int, not bool")
    try:
        found = operator.index(number)  # type: ignore[arg-type]
    except TypeError as error:
        raise TypeError(f"a round is an int, not {type(number).__name__}") from error
    if not 0 <= found <= MAX_ROUND:
        raise ValueError(f"a round is from 0 to {MAX_ROUND}, not {found}")
    return found


def require_experiment(name: object) -> str:
    """Return the name of an experiment, which is the name of the folder of its run.

    Raises
    ------
    TypeError
        It is not a str.
    ValueError
        It is not the name of a folder that stands beside others, or a folder of a run itself.

    Examples
    --------
    >>> require_experiment("adam")
    'adam'
    """
    name = require_name("experiment", name)
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise ValueError(f"experiment must be the name of a folder, not {name!r}")
    if name in RUN_FOLDERS:
        raise ValueError(f"experiment must not be {name!r}, which is a folder of a run")
    return name


def require_name(what: str, name: object) -> str:
    """Return a name; TypeError for anything but a str."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {type(name).__name__}")
    return name


def _stem(spelled: str) -> str:
    """Return a spelled name as long as a file name may be; ``==`` is in no spelled name."""
    if len(spelled) <= MAX_STEM:
        return spelled
    digest = hashlib.blake2b(spelled.encode(), digest_size=16).hexdigest()
    return f"{spelled[: MAX_STEM - len(digest) - 2]}=={digest}"
