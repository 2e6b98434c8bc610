"""How a store spells the names of clients, nodes and files, and the record that says whose a file is."""

from __future__ import annotations

import re

from archive.errors import ValueRangeError

__all__ = [
    "CATALOGUE",
    "CATALOGUE_RECORD",
    "CHECKPOINT",
    "RUN_FOLDERS",
    "is_spelled",
    "parse_client",
    "parse_round",
    "spell",
    "spellings",
    "unspell",
]

CHECKPOINT = "fedarchive.checkpoint"
"""Config record of round and client files: ``round``; of a round ``clients`` (as `spell` has them),
``digests`` and, unless all are empty, ``writes``; of a client ``client`` and, unless empty, ``write``. Of a
context ``node``, its name."""

RUN_FOLDERS = ("rounds", "contexts")
"""Folders by which a run is recognised."""
CATALOGUE = "catalogue.h5"
"""File beside them that says what the files of the rounds said; no archive of anybody's."""
CATALOGUE_RECORD = "fedarchive.catalogue"
"""Config record of a catalogue: ``version``."""

_LOWER = b"abcdefghijklmnopqrstuvwxyz0123456789_-."
_PLAIN = frozenset(_LOWER + b"ABCDEFGHIJKLMNOPQRSTUVWXYZ@,()")
_BEFORE = frozenset(_LOWER)
"""What earlier versions left as it is."""
_SPELLED = re.compile(r"(?:[A-Za-z0-9_.@,()-]|=[0-9a-f]{2})+")
_ROUND = re.compile(r"([0-9]{8})\.h5")
_CLIENT = re.compile(r"([0-9]{8})/([^/]+)\.h5")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
"""Names that Windows gives to devices, whatever follows a dot."""


def spell(name: str) -> str:
    """Return a name as the stem of a file that every storage has.

    ASCII letters, digits and ``_ - . @ , ( )`` stay. Every other byte of UTF-8 becomes ``=`` and two hex
    digits: Windows reserves some, URLs and patterns give others a meaning, and file systems normalise what is
    not ASCII. So do a dot at the beginning or end, and the first letter of a device of Windows. The escape is
    not the ``%`` of URLs, which object stores and web servers decode, some twice. The empty name is ``=``.

    Two names are never spelled alike, but their spellings may differ in case alone.

    Examples
    --------
    >>> spell("Berlin"), spell("client 7/A"), spell("Köln"), spell(".."), spell("con")
    ('Berlin', 'client=207=2fA', 'K=c3=b6ln', '=2e=2e', '=63on')
    """
    if not name:
        return "="
    spelled = _encode(name, _PLAIN)
    if spelled[-1] == ".":
        spelled = f"{spelled[:-1]}=2e"
    if spelled[0] == "." or _DEVICE.fullmatch(spelled):
        spelled = f"={ord(spelled[0]):02x}{spelled[1:]}"
    return spelled


def spellings(name: str) -> list[str]:
    """Return every stem that a file of a name may have: as `spell` has it, and as earlier versions had it.

    Examples
    --------
    >>> spellings("Berlin"), spellings("client-7")
    (['Berlin', '=42erlin'], ['client-7'])
    """
    before = _encode(name, _BEFORE) or "="
    if before[0] == ".":
        before = f"=2e{before[1:]}"
    return list(dict.fromkeys([spell(name), before]))


def _encode(name: str, plain: frozenset[int]) -> str:
    encoded = name.encode("utf-8", "surrogatepass")
    return "".join(chr(byte) if byte in plain else f"={byte:02x}" for byte in encoded)


def unspell(spelled: str) -> str:
    """Return the name that `spell` was given, in this version or in an earlier one.

    Raises
    ------
    ValueRangeError
        `spell` returns no such text.

    Examples
    --------
    >>> unspell("K=c3=b6ln=2fA"), unspell("=4b=c3=b6ln=2f=41")
    ('Köln/A', 'Köln/A')
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


def is_spelled(text: str) -> bool:
    """Return whether `unspell` returns a name for this text."""
    try:
        unspell(text)
    except ValueRangeError:
        return False
    return True


def parse_round(path: str) -> int | None:
    """Return the number of a round by its path below ``rounds``; None for any other file."""
    match = _ROUND.fullmatch(path)
    return int(match[1]) if match else None


def parse_client(path: str) -> tuple[int, str] | None:
    """Return round and stem of a client's file by its path below ``rounds``; None for any other."""
    match = _CLIENT.fullmatch(path)
    return (int(match[1]), match[2]) if match and not match[2].startswith(".") else None
