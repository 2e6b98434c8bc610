"""``fedarchive mean``: the weighted mean of archives of one schema."""

from __future__ import annotations

import argparse
import sys

import archive
from archive.cli.bars import progress_of
from archive.cli.executors import chosen_executor, define_executor
from archive.cli.exits import OK
from archive.cli.options import define_reading, reading_options, shown_path
from archive.cli.output import is_text, show
from archive.cli.text import printable, save_facts, size
from archive.errors import ExistsError

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Average archives whose arrays have equal names, types and shapes, any number of them in bounded memory, and
save the mean at OUT, at once and only when all is written. Configs are not taken over; metrics are averaged
with --metrics.

More archives than --batch are added up batch by batch, the sums kept in a folder beside OUT until the mean is
there: the command goes on from them after it was killed. Equal inputs, weights and --batch give equal bits,
however many processes share the work.

JSON: path, inputs, weights (null without --weights), skipped (a list of {path, error}), arrays, array_bytes,
file_bytes, seconds, digest."""


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("out", metavar="OUT", help="where the mean goes; named first, before the archives")
    parser.add_argument("paths", metavar="IN", nargs="+", help="archives to average, or one pattern of them")
    parser.add_argument(
        "--weights",
        metavar="W1,W2,...|NAME",
        help="one number for each IN, or the metric that weighs each, such as num-examples; default: equal",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an archive that is at OUT")
    parser.add_argument(
        "--batch", metavar="N", type=_batch, default=64, help="archives open at once; default: 64"
    )
    parser.add_argument("--scratch", metavar="URL", help="folder for sums of batches; default: beside OUT")
    parser.add_argument("--metrics", action="store_true", help="average the metrics too")
    parser.add_argument("--skip", action="store_true", help="leave bad archives out, and name them")
    parser.add_argument("--allow-nan", action="store_true", help="take archives with NaN and infinities")
    define_executor(parser)
    define_reading(parser)


def run(arguments: argparse.Namespace) -> int:
    """Average files."""
    paths = arguments.paths[0] if len(arguments.paths) == 1 else arguments.paths
    weights = _weights(arguments.weights)
    try:
        with chosen_executor(arguments) as executor, progress_of(arguments, "averaging") as bar:
            report = archive.mean(
                paths,
                weights,
                out=arguments.out,
                batch=arguments.batch,
                scratch=arguments.scratch,
                executor=executor,
                errors="skip" if arguments.skip else "raise",
                nan="allow" if arguments.allow_nan else "error",
                metrics="weighted" if arguments.metrics else None,
                overwrite=arguments.overwrite,  # "mean *.h5" without OUT would replace the first of them
                progress=bar.report,
                **reading_options(arguments, arguments.out, *arguments.paths),
            )
    except ExistsError as error:
        error.remedy = "name OUT first, before the archives; --overwrite replaces an archive that is there"
        raise
    left_out = [{"path": one.path, "error": str(one.error)} for one in report.skipped]
    facts = save_facts(report, inputs=arguments.paths, weights=weights, skipped=left_out)
    inputs = [shown_path(path) for path in arguments.paths]
    facts |= {"inputs": inputs, "skipped": left_out}  # not those of the report
    if is_text(arguments):
        for one in report.skipped:
            print(f"left out: {printable(str(one.error))}", file=sys.stderr)
    line = (
        f"{printable(report.url)}: mean of {report.inputs} archives, {report.arrays} arrays, "
        f"{size(report.array_bytes)}, saved in {report.seconds * 1000:.1f} ms"
    )
    show(arguments, facts, [line])
    return OK


def _batch(text: str) -> int:
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"2 or more archives, not {text!r}")
    return int(text)


def _weights(text: str | None) -> list[float] | str | None:
    """Return numbers, or the name of a metric."""
    if text is None:
        return None
    try:
        return [float(weight) for weight in text.split(",")]
    except ValueError:
        return text
