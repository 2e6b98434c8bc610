"""``python -m archive`` and the ``fedarchive`` command."""

import sys

from archive.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
