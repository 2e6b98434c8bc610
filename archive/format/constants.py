"""Numbers of the specification; a test holds every one against the tables of ``spec/v1/format.md``."""

from __future__ import annotations

from archive.descriptions import MAX_NESTING as MAX_NESTING

FORMAT_NAME = "fedarchive"
VERSION_MAJOR = 1
VERSION_MINOR = 0

SUPERBLOCK_BYTES = 48
DATA_AT = 4096
"""Offset of the first array byte: one page, so that the first large array is page-aligned."""

ALIGN = 64
"""Alignment of every array: a cache line, which torch and SIMD kernels need too."""
PAGE = 4096
PAGE_ALIGN_FROM = 65536
"""Arrays of at least this many bytes start on a page, so that each can be mapped and advised alone."""

MIN_SEGMENT_BYTES = 128 * 1024
"""Bytes per digest: one row of a matrix of 64 MiB moves 128 KiB; digests are at most 0.0125 % of an archive.

xxhash lets other threads run only while it hashes 100,000 bytes or more. Two threads verify segments of
64 KiB no faster than one thread does."""
MAX_SEGMENT_BYTES = 4 * 1024 * 1024
MAX_SEGMENTS = 1024
"""Segments of an array, as long as they are shorter than the longest: the index stays small."""
DIGEST_ALGORITHM = 1
"""xxh3-128."""

FOOTER_BYTES = 256
FOOTER_MAGIC = b"\x93FEDARC\n"
END_MAGIC = b"\nFEDARC\x93"
INDEX_MAGIC = b"\x93FEDIDX\n"
INDEX_HEADER_BYTES = 96
TYPE_ROW_BYTES = 64
RECORD_ROW_BYTES = 32
DIGEST_BYTES = 16

NO_ALIAS = 0xFFFFFFFF

MAX_RANK = 64
"""numpy's own limit; HDF5's is 32, above which an array is stored as plain bytes."""
HDF5_MAX_RANK = 32
MAX_LINK_NAME_BYTES = 32 * 1024
MAX_ATTRIBUTE_BYTES = 60_000
"""A value whose attribute would be larger is stored as a dataset (HDF5 messages end at 65,535)."""
MAX_ATTRIBUTES = 4096
"""Values of one record kept as attributes; the rest become datasets. libhdf5 is quadratic in the
attributes of one header: it lists 4,000 in 0.3 s and 60,000 in 19 s."""
MAX_ARRAYS = (1 << 32) - 2
MAX_RECORDS = 1 << 24
MAX_FILE_BYTES = 1 << 62

KIND_ARRAYS = 0
KIND_METRICS = 1
KIND_CONFIGS = 2
OWN_PREFIX = "fedarchive."
"""Names that begin so are the library's (section 18)."""
STATE_RECORD = "fedarchive.state"
"""Record of configs that holds the tree of a saved state (section 21)."""
KINDS = ("arrays", "metrics", "configs")

MODE_ELEMENTS = 0
"""Stored bytes are the elements in C order; ``Array.data`` is the .npy of them."""
MODE_TEXT = 1
"""Stored bytes are fixed-width UTF-8 of ``U`` elements; ``Array.data`` is the .npy of those."""
MODE_DATA = 2
"""Stored bytes are ``Array.data`` itself."""

MAX_TEXT_EXPANSION = 256
"""Bytes of a ``U`` element per byte of its UTF-8, at most; 4 where the element is filled with ASCII."""

FLAG_FORTRAN = 1
"""The array was in column-major order; its elements are stored in C order all the same."""

CONTEXT_NUMBERS = ("run_id", "node_id", "series_id")
"""Integers of a Context; ``series_id`` is written where it is not 0."""
CONTAINERS = ("recordset", "recorddict", "context")
