"""What is shown of a run in a notebook: its folder, and which rounds are there; no file is opened."""

from __future__ import annotations

import copy

from archive.checkpoints.roundreader import RoundReader
from archive.display.markup import summary_html
from archive.display.summaries import Summary
from archive.display.texts import counted
from archive.errors import ArchiveError

__all__ = ["run_html"]


def run_html(kind: str, files: RoundReader) -> str:
    """Return the HTML of a store.

    Parameters
    ----------
    kind : str
        Name of its class.
    files : RoundReader
        Its files; it is not told which run was found.
    """
    return summary_html(Summary(kind, [("folder", files.location.display), ("rounds", _rounds_text(files))]))


def _rounds_text(files: RoundReader) -> str:
    if files.remote:
        return "not listed: the folder is remote, and rounds() lists it"
    looking = copy.copy(files)
    try:
        looking.find()
        numbers = looking.numbers()
    except ArchiveError as error:
        return str(error)
    if not numbers:
        return "none yet"
    return f"{counted(len(numbers), 'round')}: {numbers[0]}{f' to {numbers[-1]}' * (len(numbers) > 1)}"
