"""Where index and values of an archive were read: errors about their content name that place."""

from __future__ import annotations

from dataclasses import dataclass

from archive.errors import ArchiveError, HostileFileError
from archive.format.document import RAISE, TooLargeError
from archive.format.versions import unknown_feature

__all__ = ["Origin"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The place that errors about a section name."""

    path: str | None = None
    """The file."""
    offset: int | None = None
    """Offset of the section in that file."""
    minor: int = 0
    """Minor version of the footer: an addition of a later version is not an attack."""

    def invalid(self, problem: str, key: str | None = None) -> HostileFileError:
        """Return the error for a section that breaks a rule of the format."""
        return HostileFileError(
            problem,
            path=self.path,
            offset=self.offset,
            key=key,
            remedy="do not trust this file: a digest holds over content that no writer makes",
        )

    def too_large(self, error: TooLargeError, key: str | None = None) -> HostileFileError:
        """Return the error for JSON that takes too much memory."""
        return HostileFileError(str(error), path=self.path, offset=self.offset, key=key, remedy=RAISE)

    def unknown(self, problem: str, key: str | None = None) -> ArchiveError:
        """Return the error for content that this version of the format does not know."""
        return unknown_feature(problem, self.minor, path=self.path, offset=self.offset, key=key)
