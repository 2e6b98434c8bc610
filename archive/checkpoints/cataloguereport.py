"""Writes the catalogue of a run anew, from the files of its rounds alone."""

from __future__ import annotations

from dataclasses import dataclass

from archive import tuning
from archive.checkpoints.catalogue import Catalogue
from archive.checkpoints.cataloguefile import digest_of, write_catalogue
from archive.checkpoints.knownrounds import read_batches
from archive.checkpoints.roundreader import RoundReader
from archive.display.shortfields import ShortFields
from archive.tools.spelling import CATALOGUE

__all__ = ["CatalogueReport", "rebuild_catalogue"]


@dataclass(frozen=True, slots=True, repr=False)
class CatalogueReport(ShortFields):
    """A catalogue that was written."""

    url: str
    """Path or URL of its file."""
    rounds: int
    """Rounds that it knows. It lacks those that cannot be read, and of a local folder those that were saved
    in the last seconds."""
    file_bytes: int
    """Length of its file."""


def rebuild_catalogue(files: RoundReader) -> CatalogueReport:
    """Write the catalogue of a run anew, from its files alone.

    Raises
    ------
    ArchiveError
        The folder cannot be read, or the catalogue not be written.
    """
    digest_of(files.at(CATALOGUE))
    made = Catalogue()
    for _, read in read_batches(files, files.numbers(), tuning.CATALOGUE_FOLDED):
        made = made.updated(read, ())
    report = write_catalogue(files.location, made)
    return CatalogueReport(files.shown(CATALOGUE), len(made.numbers), report.file_bytes)
