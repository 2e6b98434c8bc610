"""One module a file format that archives are converted from and to.

A module reads a file as `archive.tools.formats.entries.Content`: arrays whose elements come in pieces, and
what the archive will not hold. It writes arrays of a `Content` front to back, so that a file on the disk and
an object are the same to it, in a few megabytes of memory.

Formats without a framework are here. Those of a floor above are `archive.interop.torchfile`, as no tool knows
a framework, and `archive.checkpoints.npzrounds`, a folder of rounds. `archive.tools.converting` finds both by
name, as the command line finds its commands: so `archive.tools.convert` is one call for all formats, and no
import goes up.
"""
