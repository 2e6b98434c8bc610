"""ShortFields: the base of dataclasses that may hold very much, and do not show all of it."""

from __future__ import annotations

__all__ = ["ShortFields"]


class ShortFields:
    """Has the text of a dataclass, each field cut to 1,000 characters; for ``@dataclass(repr=False)``."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the fields."""
        from archive.display.texts import fields_text  # for people alone

        return fields_text(self)
