"""ShortFields: the base of dataclasses that may hold very much, and do not show all of it."""

from __future__ import annotations

__all__ = ["ShortFields"]


class ShortFields:
    """Shows the fields of a dataclass, each cut to 1,000 characters; for ``@dataclass(repr=False)``."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return the fields as Python spells them."""
        from archive.display.texts import fields_text  # for people alone, as `records.shown`

        return fields_text(self)

    def _repr_html_(self) -> str:
        """Return the fields as HTML for notebooks."""
        from archive.display.fieldtables import fields_html

        return fields_html(self)
