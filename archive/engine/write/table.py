"""Rows of an archive while they arrive: plain columns, and which rows share their bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from archive.engine.storagespec import Form
from archive.engine.write.inputs import Source
from archive.format.constants import NO_ALIAS

__all__ = ["Rows"]


@dataclass(slots=True)
class Rows:
    """Columns while they grow, one entry a row."""

    keys: list[str] = field(default_factory=list)
    """Its key."""
    record: list[int] = field(default_factory=list)
    """Number of its record."""
    form: list[int] = field(default_factory=list)
    """Its form, as an index into ``forms``."""
    sources: list[Source | None] = field(default_factory=list)
    """Where its bytes come from."""
    alias: list[int] = field(default_factory=list)
    """Row whose bytes it shares, or NO_ALIAS."""
    given: list[int] = field(default_factory=list)
    """``id`` of what the caller's container held, of planned rows."""
    forms: list[Form] = field(default_factory=list)
    """Distinct forms."""
    form_ids: dict[int, int] = field(default_factory=dict)
    """``id(form)`` to its index; ``forms`` keeps them alive."""
    identities: dict[object, int] = field(default_factory=dict)
    """First row of each memory in each form."""

    def extend(self, record: int, keys: list[str], forms: list[Form], sources: list[Any]) -> bool:
        """Add the ndarrays of one record at once; False, and nothing added, where some are tied."""
        first, n = len(self.keys), len(keys)
        for number, form in {id(form): form for form in forms}.items():
            if number not in self.form_ids:
                self.form_ids[number] = len(self.forms)
                self.forms.append(form)
        numbers = [self.form_ids[id(form)] for form in forms]
        known = dict(zip(zip(map(id, sources), numbers, strict=True), range(first, first + n), strict=True))
        if len(known) < n or not self.identities.keys().isdisjoint(known):
            return False
        self.identities |= known
        self.keys += keys
        self.record += [record] * n
        self.form += numbers
        self.sources += sources
        self.alias += [NO_ALIAS] * n
        return True

    def append(self, record: int, key: str, form: Form, source: Source | None, identity: object) -> int:
        """Add a row and return its number; the same memory in the same form is stored once."""
        row = len(self.keys)
        number = self.form_ids.get(id(form))
        if number is None:
            number = self.form_ids[id(form)] = len(self.forms)
            self.forms.append(form)
        target = NO_ALIAS
        if identity is not None and form.nbytes:
            first = self.identities.setdefault((identity, number), row)
            if first != row:
                target = first
        self.keys.append(key)
        self.record.append(record)
        self.form.append(number)
        self.sources.append(source)
        self.alias.append(target)
        return row
