"""The values section: one JSON document of what an archive says beside its arrays.

Metrics, configs, attributes and a Context stand in it under the names of their records, so that a table of
many archives needs neither their indexes nor their metadata.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from archive.dtypes import NDArray
from archive.format.document import TooLargeError, parse_json
from archive.format.origin import Origin

__all__ = ["ValueSection"]

_TEXTS = ("container", "created", "writer")
"""Members that every document has ([INDEX-18])."""


@dataclass(frozen=True)
class ValueSection:
    """A values section whose digest holds; the JSON is parsed when a member is asked for."""

    text: NDArray
    """Its bytes, uint8."""
    origin: Origin
    """Named in errors."""

    @cached_property
    def document(self) -> dict[str, Any]:
        """Container, created, writer, values, attributes, context.

        Raises
        ------
        HostileFileError
            The section is not one JSON object with its three texts, or takes too much memory.
        """
        try:
            document = parse_json(self.text)
        except TooLargeError as error:
            raise self.origin.too_large(error) from error
        except ValueError as error:
            raise self.origin.invalid("the values section holds invalid JSON") from error
        if not isinstance(document, dict):
            raise self.origin.invalid("the JSON of the values section is not an object")
        for name in _TEXTS:
            if not isinstance(document.get(name), str):
                raise self.origin.invalid(f"the values section has no {name}")
        return document

    def text_of(self, name: str) -> str:
        """Return container, created or writer."""
        text: str = self.document[name]
        return text
