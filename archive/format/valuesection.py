"""The values section: one JSON document of what an archive says beside its arrays.

Metrics, configs, attributes and a Context stand in it under the names of their records, so that a table of
many archives needs neither their indexes nor their metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from archive.dtypes import NDArray
from archive.format.document import SMALL_BYTES, TooLargeError, parse_json, require_decodable
from archive.format.origin import Origin

__all__ = ["ValueSection", "encode_section"]

ALIGN_BYTES = 8
"""Spaces fill the section up to a multiple, so that the footer is aligned; JSON allows them."""


def encode_section(document: Mapping[str, Any]) -> bytes:
    """Return the bytes of the section.

    Parameters
    ----------
    document : mapping
        Container, creation time, writer, values, attributes and Context.

    Raises
    ------
    TooLargeError
        No reader would take the document.
    """
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    if len(text) > SMALL_BYTES:
        require_decodable(text)
    return text + b" " * (-len(text) % ALIGN_BYTES)


class ValueSection:
    """A values section whose digest holds; the JSON is parsed when a member is asked for.

    Parameters
    ----------
    text : ndarray of uint8
    origin : Origin
        Named in errors.
    """

    def __init__(self, text: NDArray, origin: Origin) -> None:
        self.text = text
        self.origin = origin

    @cached_property
    def document(self) -> dict[str, Any]:
        """Container, created, writer, values, attributes, context.

        Raises
        ------
        HostileFileError
            The section is not one JSON object, or takes too much memory.
        """
        try:
            document = parse_json(self.text)
        except TooLargeError as error:
            raise self.origin.too_large(error) from error
        except ValueError as error:
            raise self.origin.invalid("the values section holds invalid JSON") from error
        if not isinstance(document, dict):
            raise self.origin.invalid("the JSON of the values section is not an object")
        return document

    def text_of(self, name: str) -> str:
        """Return a member that is a text."""
        value = self.document.get(name)
        if not isinstance(value, str):
            raise self.origin.invalid(f"the values section has no {name}")
        return value
