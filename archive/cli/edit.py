"""``fedarchive edit``: arrays of an archive renamed, deleted, replaced or cast, metrics and configs set."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from archive.cli.exits import OK
from archive.cli.options import add_option, define_reading, options_for, reading_options, shown_path
from archive.cli.output import show
from archive.cli.text import printable, save_facts, size
from archive.errors import ArchiveError

if TYPE_CHECKING:
    from archive.tools.editables import ValueRecords
    from archive.tools.editing import Editor

__all__ = ["DESCRIPTION", "define", "run"]

DESCRIPTION = """\
Change an archive, which is replaced at once and only when all is written; with --out it stays, and the
changed archive goes to OUT. Arrays that are not touched are copied, and compared with their digests.
Container, creation time, attributes and tied arrays stay as they are.

A KEY is RECORD/KEY, or the key alone where one record has it. A NAME is RECORD/NAME, or the name alone
where there is one record of metrics (of configs), or none. Options may be repeated. In whatever order they
are given, arrays are deleted first, then renamed, then set, then cast. --delete and --keys take patterns. Of
a saved training state --cast without --keys leaves the state of the optimizer as it is.

JSON: path, source, arrays, array_bytes, file_bytes, seconds, digest."""

_CHANGES = ("delete", "delete_record", "rename", "set", "cast", "metric", "config")


def define(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("path", metavar="PATH", help="the archive: a path or URL")
    parser.add_argument("--out", metavar="OUT", help="where the changed archive goes; default: PATH itself")
    _add_repeated(parser, "--delete", "KEY", "delete an array, or those of a pattern")
    _add_repeated(parser, "--delete-record", "RECORD", "delete a record of arrays, such as optimizer")
    _add_repeated(parser, "--rename", ("KEY", "NEW"), "give an array another key, and maybe another record")
    _add_repeated(parser, "--set", ("KEY", "FILE"), "replace or add an array: that of a .npy file")
    parser.add_argument(
        "--cast", metavar="DTYPE", help="convert arrays to a type of numbers, such as bfloat16"
    )
    text = (
        "with --cast: arrays whose KEY or RECORD/KEY match, such as '*.weight'; default: all that are floats"
    )
    _add_repeated(parser, "--keys", "PATTERN", text)
    for kind, text in (("metric", "a number, or a JSON list of numbers"), ("config", "JSON, else text")):
        add_option(parser, f"--{kind}", dest=kind, text=f"set a {kind}: {text}", metavar="NAME=VALUE")
    define_reading(parser)
    add_option(parser, "--out-option", dest="out_options", text="of OUT alone: as -o")


def _add_repeated(
    parser: argparse.ArgumentParser, option: str, metavar: str | tuple[str, str], text: str
) -> None:
    count = len(metavar) if isinstance(metavar, tuple) else None
    parser.add_argument(option, metavar=metavar, nargs=count, action="append", default=[], help=text)


def run(arguments: argparse.Namespace) -> int:
    """Edit one archive."""
    from archive.tools import edit

    path, out = arguments.path, arguments.out
    shown = shown_path(path)
    if not any(getattr(arguments, name) for name in _CHANGES):
        options = ", ".join(f"--{name.replace('_', '-')}" for name in _CHANGES)
        raise ArchiveError("nothing to change", path=shown, remedy=f"give {options}, or see --help")
    if arguments.keys and arguments.cast is None:
        raise ArchiveError("--keys says what to cast", path=shown, remedy="give --cast too")
    given = [*arguments.options, *arguments.out_options]
    editor = edit(
        path,
        out,
        **reading_options(arguments, path),
        out_options=options_for(given, out) if out is not None else None,
    )
    with editor:
        try:
            _change(editor, arguments)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ArchiveError):
                raise
            raise ArchiveError(str(error.args[0]), path=shown, remedy="nothing was written") from error
    report = editor.report
    line = (
        f"{printable(report.url)}: {report.arrays} arrays, {size(report.file_bytes)}, "
        f"edited and verified in {report.seconds * 1000:.1f} ms"
    )
    show(arguments, save_facts(report, source=shown), [line])
    return OK


def _change(editor: Editor, arguments: argparse.Namespace) -> None:
    for text in arguments.delete:
        key = _key(editor, text)
        del editor[key if key in editor else text]
    for name in arguments.delete_record:
        editor.delete_record(name)
    for old, new in arguments.rename:
        editor.rename(_key(editor, old), _key(editor, new))
    for text, file in arguments.set:
        editor[_key(editor, text)] = _read_npy(file)
    if arguments.cast is not None:
        editor.cast(arguments.cast, arguments.keys or None)
    for pairs, records, name in (
        (arguments.metric, editor.metrics, "metrics"),
        (arguments.config, editor.configs, "configs"),
    ):
        for text, value in pairs:
            _set_value(records, name, text, value)


def _key(editor: Editor, text: str) -> str | tuple[str, str]:
    """Return the array that a text names; where there is none, the array that it would name."""
    records = dict.fromkeys(record for record, _ in editor)
    pairs = [(record, text[len(record) + 1 :]) for record in records if text.startswith(f"{record}/")]
    found: list[str | tuple[str, str]] = [pair for pair in pairs if pair in editor]
    if text in editor:
        found.append(text)
    if len(found) > 1:
        raise KeyError(f"{text!r} names several arrays: {', '.join(map(repr, found))}")
    return [*found, *sorted(pairs, key=lambda pair: -len(pair[0])), text][0]


def _read_npy(file: str) -> Any:
    """Return the array of a .npy file, which is read when it is written."""
    import numpy as np

    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ArchiveError(str(error), path=file, remedy="name a .npy file") from error


def _set_value(records: ValueRecords[Any], default: str, text: str, value: Any) -> None:
    """Set a metric or config by its name."""
    known = sorted((record for record in records if text.startswith(f"{record}/")), key=len)
    record, slash, name = (known[-1], "/", text[len(known[-1]) + 1 :]) if known else text.partition("/")
    if not slash:
        if len(records) > 1:
            raise KeyError(f"name one of the records: {', '.join(f'{name}/{text}' for name in records)}")
        record, name = next(iter(records), default), text
    records.setdefault(record)[name] = value
