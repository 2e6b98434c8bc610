"""``fedarchive report``: one HTML file about a run, two runs or an archive."""

from __future__ import annotations

import argparse
from typing import Any

import archive
from archive.cli.bars import progress_of
from archive.cli.exits import OK, exit_code, worst
from archive.cli.options import define_reading, open_run, options_for, reading_options
from archive.cli.output import complain, show
from archive.cli.text import printable, size

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Save one HTML file about the folder of a run, two runs side by side, or an archive. It needs no network, no
server and no other file, and is less than 5 MB: learning curves of rounds and clients; heat maps of the norm
of each layer and of what each client sent by round, and of what it did to each layer; arrays with sizes,
types and histograms; differences of rounds; what is damaged, NaN or an outlier is named.

What cannot be read is reported, and left out of the page but for its name; the exit code is then 1 for
damage, else 2.

JSON: url, file_bytes, seconds, errors, a list of {path, kind, message}. CSV: url, file_bytes, seconds, as one
row."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("path", metavar="RUN", help="the folder of a run, or an archive: a path or URL")
    parser.add_argument("--compare", metavar="RUN2", help="another run or archive, shown beside the first")
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help="the page, such as run.html")
    parser.add_argument("--title", metavar="TEXT", help="title of the page; default: the names of the runs")
    text = "the most %s of which arrays are read, evenly chosen; default: %%(default)s"
    for name in ("rounds", "clients"):
        parser.add_argument(f"--{name}", metavar="N", type=_count, default=50, help=text % name)
    parser.add_argument("--no-overwrite", action="store_true", help="fail where FILE is there already")
    define_reading(parser, short=False)


def run(arguments: argparse.Namespace) -> int:
    """Save the page."""
    from archive.tools import report

    subjects: list[Any] = [None, None]
    for place, path in enumerate((arguments.path, arguments.compare)):
        if path is not None:
            subjects[place] = open_run(arguments, path) or archive.open(
                path, **reading_options(arguments, path)
            )
    with progress_of(arguments, "reading", "archives") as bar:
        found = report(
            subjects[0],
            arguments.out,
            compare=subjects[1],
            title=arguments.title,
            rounds=arguments.rounds,
            clients=arguments.clients,
            overwrite=not arguments.no_overwrite,
            progress=bar.report,
            storage_options=options_for(arguments.options, arguments.out),
        )
    for subject in subjects:
        if isinstance(subject, archive.Archive):
            subject.close()
    errors = []
    for path, error in found.failures:
        errors.append({"path": path, "kind": type(error).__name__, "message": str(error)})
        complain(error, debug=arguments.debug)
    facts = {"url": found.url, "file_bytes": found.file_bytes, "seconds": found.seconds}
    line = f"{printable(found.url)}: {size(found.file_bytes)}, made in {found.seconds:.1f} s"
    show(arguments, {**facts, "errors": errors}, [line], rows=[facts])
    return worst([exit_code(error) for _, error in found.failures]) if errors else OK


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of at least 1, not {text!r}")
    return int(text)
