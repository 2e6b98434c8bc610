"""Names of files in a store.

``rounds/00000003.h5``, ``rounds/00000003/CLIENT.h5``, ``contexts/NODE.h5``, and of a Flower run
``contexts/NODE/00000003-1-TOKEN.h5`` (`archive.checkpoints.lineage`). Beside these folders `CATALOGUE`, which
nobody needs (`archive.checkpoints.catalogue`). A file of a client is never
replaced: where its name is taken, the next is ``CLIENT==WRITE.h5``, with 16 random hex digits. So also
where a file system takes two names for one because it ignores case. A context says whose it is.
"""

from __future__ import annotations

import hashlib
import operator
import re

from archive.tools.spelling import RUN_FOLDERS, is_spelled, unspell

__all__ = [
    "MAX_ROUND",
    "RESUME",
    "client_path",
    "context_folder",
    "context_path",
    "is_write",
    "node_of",
    "require_experiment",
    "require_name",
    "require_round",
    "round_path",
]

RESUME = "fedarchive.resume"
"""Config record of a round of a resumable server, among others with ``token`` and ``ancestors``."""
MAX_ROUND = 99_999_999
"""Greatest number of a round."""
MAX_STEM = 128
"""Characters of a file name before ``.h5``: eCryptfs takes 143 in all."""

_WRITE = re.compile(r"(?:[0-9a-f]{16})?")
_CONTEXT = re.compile(r"([^/.][^/]*?)(?:/[0-9]{8,}-[0-9][^/]*)?\.h5")


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


def context_path(spelled: str) -> str:
    """Return the path of a node's context in its store."""
    return f"{context_folder(spelled)}.h5"


def context_folder(spelled: str) -> str:
    """Return the path of the states of a node of a Flower run."""
    return f"contexts/{_stem(spelled)}"


def is_write(text: object) -> bool:
    """Return whether this is the part of a name that keeps files of one client apart."""
    return isinstance(text, str) and _WRITE.fullmatch(text) is not None


def node_of(path: str) -> str | None:
    """Return the node of a context or state by its path below ``contexts``; None for any other file.

    Of a name that was too long for a file, the name of the file is returned.

    Examples
    --------
    >>> node_of("K=c3=b6ln.h5"), node_of("partition-0/00000007-1-0123456789abcdef.h5"), node_of("a/b.h5")
    ('Köln', 'partition-0', None)
    """
    match = _CONTEXT.fullmatch(path)
    if match is None:
        return None
    return unspell(match[1]) if is_spelled(match[1]) else match[1]


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
