"""What a store does about NaN and infinities in the arrays that it saves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

from archive.engine.write.finiteness import FinitenessCheck, NonFinite
from archive.errors import NonFiniteError, NonFiniteWarning

__all__ = ["Check", "FileCheck", "require_check"]

Check: TypeAlias = Literal["warn", "error", "off"]
"""What NaN and infinities in arrays that a store saves do: they are warned of, nothing is saved, or nobody
looks."""
SHOWN_ARRAYS = 3
"""Arrays that a message names."""


def require_check(check: object) -> Check:
    """Return a word that ``check=`` takes; ValueError for any other."""
    for word in get_args(Check):
        if check == word:
            found: Check = word
            return found
    raise ValueError(f"check must be one of {', '.join(map(repr, get_args(Check)))}, not {check!r}")


class FileCheck:
    """The check of one file.

    Parameters
    ----------
    check : {"warn", "error", "off"}
    what : str
        What the file is, for messages.
    path : str
        Its URL without secrets.
    """

    def __init__(self, check: Check, what: str, path: str) -> None:
        self._check, self._what, self._path = check, what, path
        self.looks: FinitenessCheck | None = None if check == "off" else FinitenessCheck()
        """Looks at what is written."""

    def require(self) -> None:
        """Raise NonFiniteError for what was written, where that is asked for."""
        found = self._found() if self._check == "error" else []
        if found:
            raise NonFiniteError(
                f"{self._what}: {_described(found)}",
                path=self._path,
                key=f"{found[0].record}/{found[0].key}",
                remedy='nothing was saved; check="warn" saves it all the same',
            )

    def warning(self) -> NonFiniteWarning | None:
        """Return what is to be said of the file that was saved."""
        found = self._found() if self._check == "warn" else []
        if not found:
            return None
        return NonFiniteWarning(f"{self._what} was saved with {_described(found)} ({self._path})")

    def _found(self) -> list[NonFinite]:
        return [] if self.looks is None else self.looks.found()


def _described(found: Sequence[NonFinite]) -> str:
    """Return what arrays have in a few words.

    Examples
    --------
    >>> _described([NonFinite("model", "w", 2, 0, 9), NonFinite("model", "b", 1, 3, 4)])
    'NaN or infinities in 2 arrays: model/w (2 of 9 NaN), model/b (1 of 4 NaN, 3 infinite)'
    """
    shown = []
    for one in found[:SHOWN_ARRAYS]:
        counts = [(one.nans, "NaN"), (one.infinities, "infinite")]
        first, *rest = [f"{count}{{}} {word}" for count, word in counts if count]
        words = ", ".join([first.format(f" of {one.elements}"), *(text.format("") for text in rest)])
        shown.append(f"{one.record}/{one.key} ({words})")
    more = f" and {len(found) - SHOWN_ARRAYS} more" if len(found) > SHOWN_ARRAYS else ""
    return f"NaN or infinities in {len(found)} array{'s'[: len(found) > 1]}: {', '.join(shown)}{more}"
