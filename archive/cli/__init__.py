"""The ``fedarchive`` command: arguments in, lines and exit codes out.

One module a command, each with ``define`` (its arguments) and ``run`` (its exit code); ``dispatch``
chooses one and turns errors into a line and an exit code. ``output`` prints what was found as text, JSON or
CSV; ``words`` finds the archives and runs that were named; ``text``, ``style`` and ``bars`` are how things
look. Nothing is decided here: every command is a few calls of the front door, which loads the engine at the
first one, so ``--help`` stays quick.
"""

from archive.cli.dispatch import main

__all__ = ["main"]
