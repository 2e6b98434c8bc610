"""Sizes and counts that were measured: how much is read at a time, and how many requests are under way.

None of them decides what a file holds; those that do are in `archive.format.constants`. A module looks a
figure up here when it uses it.
"""

from __future__ import annotations

import os

__all__: list[str] = []

# Writing

PIECE_BYTES = 512 << 10
"""Bytes that are copied, hashed and written at a time: a copy of this size is still in the processor's cache
when it is hashed and written. Processor time of a save in ms (medians of 9), first hashed and written from
the caller's memory, then by copies of 128 KiB, 256 KiB, 512 KiB, 1 MiB, 2 MiB and 4 MiB:

- 270 MB in large arrays: 112, then 123, 111, 108, 128, 145, 162
- 300 arrays of 64 to 320 KiB: 27, then 36, 33, 33, 31, 33, 35
- 20,000 arrays of 4 KiB: 128, then 118, 127, 123, 128, 113, 121
"""
WRITE_PARALLEL_BYTES = 4 << 20
"""From this size an archive is written in threads."""
WRITE_GROUPS = 3
"""Groups of 4 MiB under way: two threads copy, hash and write in turn, and find the third group ready."""
STRETCH_BYTES = 32 << 20
"""What a thread copies of an array that another archive holds, before it asks for more: on a busy machine
each time costs a wait for its turn."""
WRITE_MEMORIES = 4
"""Memories for a piece that are kept: threads that write one archive have three, and its small arrays one."""

# Reading files

THREADS = min(8, os.cpu_count() or 1)
"""Threads that hash and read files."""
CHECK_PARALLEL_BYTES = 8 << 20
"""From this size an array is hashed in threads: starting a thread costs as much as hashing 1 MiB."""
RUN_BYTES = 16 << 20
"""Loading reads neighbouring arrays at once up to this size: 20,000 arrays of 4 KiB take 5 reads."""
OWN_BYTES = 4 << 20
"""From this size a loaded array has memory of its own; smaller ones share that of their run. From 4 MiB on
numpy asks for huge pages: 289 arrays of 4.0 MB took 353 to 412 ms one by one, 194 to 312 in runs."""
END_BYTES = 64 << 10
"""Bytes of a file's end that opening reads by one call: 2 us; each first touch of a map costs 3 to 5."""
INDEXES = 8
"""Validated indexes that are kept: 3 us instead of 72 for 20 arrays, 9 instead of 112 for 2,400."""
INDEX_BYTES = 256 << 10
"""Longest index that is kept, about 2,500 arrays, so that all of them take at most 5 MB."""
SELECT_BYTES = 64 << 10
"""A mapped array up to this size is verified as a whole: hashing it costs less than choosing its segments."""
GATHER_BYTES = 4 << 20
"""Bytes of a selection whose places are computed and copied at a time."""
SCAN_BYTES = 4 << 20
"""What one thread reads of a file at a time for `verify` and `copy`, and then gives back to the system."""
SCAN_REGION_BYTES = 32 << 20
"""Up to this size metadata, index and values are compared as a whole there: they can be fetched again."""
RELEASE_BYTES = 1 << 20
"""Bytes of small arrays that `Archive.drain` gives back to the system at once."""
LOOK_BYTES = 1 << 20
"""Bytes that `stats` and `diff` take of an array at a time: what was hashed is still in a processor's cache
when it is looked at."""
LOOK_ELEMENTS = 1 << 15
"""Elements that they hold as float64 at a time: 256 KiB, a fourth of that cache."""
MEAN_BYTES = 1 << 20
"""Bytes of each file that `mean` reads, verifies and adds up at a time. Processor time of 64 archives of
10 MB, in ms each, by 128 KiB, 256 KiB, 512 KiB, 1 MiB and 4 MiB: 5.6, 5.2, 4.5, 4.2, 5.3."""
MEAN_LEAST_BYTES = 256 << 10
"""Bytes of each file that are worth a thread of their own."""
MEAN_BLOCK = 1 << 15
"""Elements that `mean` multiplies and adds at a time."""
MEAN_WIDE_BYTES = 32 << 20
"""Bytes of the float64 sums of a window of `mean`: those of a request of float32."""
MEAN_FETCHED_BYTES = 48 << 20
"""Bytes of remote inputs of `mean` that are asked for and not yet added up, of all inputs together. Beside
them there are the float64 sums of a window, and the result of the window before it."""
MEAN_FETCHES = 6
"""Windows that these are, where the archives are long enough: as many requests are under way."""
TASKS = 256
"""Tasks of an executor that wait or run: each holds the names of 64 archives, of a table those of 2,048."""
BATCH = 64
"""Archives that are one task of an executor, at most: handing over a task costs as much as reading some."""
ROWS = 2048
"""The same of a table of files: 80 us each, where a task of Dask takes milliseconds of the process that asks
(the scheduler in it), and one of a pool 0.3."""

JSON_BYTES = 40 << 20
"""Memory that the objects of one JSON text may take: some 50,000 metrics, or 14 MB of ASCII.
Texts of 60 MB were read in up to 16 s as 3 GB; within this limit none takes more than 0.5 s, or 64 MB."""
JSON_VARIABLE = "FEDARCHIVE_JSON_BYTES"
"""Variable of the environment that names another limit."""


def json_bytes() -> int:
    """Return `JSON_BYTES`, or what the environment says.

    Raises
    ------
    ValueError
        The environment has no number there.
    """
    given = os.environ.get(JSON_VARIABLE)
    if given is None:
        return JSON_BYTES
    if not given.isdecimal():
        raise ValueError(f"no number of bytes: {given!r}")
    return int(given)


# Reading over a network

REQUESTS = 8
"""Requests under way at once, at most, of 16 to 20 MiB each; those of `load` hold 1 MiB of that, over
s3fs and aiohttp."""
REQUEST_BYTES = 16 << 20
"""A request ends with the piece that makes it this long. At 20 ms a request and 1 GB/s a connection this
keeps the time spent on waiting under a half, and eight at once fill 10 Gbit/s."""
WINDOW_BYTES = 128 << 10
"""Bytes of a request that are verified at a time, before they are copied to their places: several segments,
or one that is longer."""
GAP_BYTES = 4096
"""Unwanted bytes that a request fetches along rather than end: padding between arrays is smaller."""
SINGLE_REQUEST_BYTES = 64 << 20
"""A slice up to this size is one request; a larger one is several into one buffer, as one connection is
slower than the network."""
TAIL_BYTES = 64 << 10
"""Bytes that the request which opens an object asks for at least: index and values of about 500 arrays."""
VALUES_TAIL_BYTES = 16 << 10
"""Bytes that it asks for at least where only the values are wanted, some 300 metrics."""
MOST_TAIL_BYTES = 4 << 20
"""Bytes that it asks for at most, where objects of that folder needed more: an index of 36,000 arrays."""
TAIL_FOLDERS = 256
"""Folders of which is remembered what their objects needed."""
SEGMENT_CACHE_BYTES = 64 << 20
"""Segments that a handle keeps after a selection took part of them: 64 rows of an embedding one by one fetch
no segment twice."""
WHOLE_SHARE = 0.75
"""A selection that touches this share of the segments of an array has all fetched, by few long requests."""
PREFETCH_BYTES = 4 << 20
"""Length of a request for arrays that are fetched before they are asked for."""
PREFETCH_REQUESTS = 4
"""Such requests under way or waiting to be taken: 16 MiB beside the array taken last. In as many threads, as
each keeps some of the memory it freed (4 of 8 MiB: 286 MB at most, with s3fs and arrays of 64 MiB; 4 of 4
MiB: 241)."""
SCAN_REQUESTS = 6
"""Requests of `verify` and `copy` under way or waiting to be taken: some 120 MiB."""
ARCHIVES = 16
"""Remote archives of a store or table read at once, each a round trip or two."""

# Catalogues of runs

SETTLED_SECONDS = 2.0
"""So long after its last change a file has times that no later change repeats: FAT's clock ticks every two
seconds, ext4's every 4 ms."""
CATALOGUE_BYTES = 64 << 10
"""A catalogue up to this size is rewritten as each round is saved, one of twice the size after two, ..."""
CATALOGUE_ROUNDS = 32
"""... and one of any size after so many rounds: as many a history reads from their own files then."""
CATALOGUE_READ = 1024
"""Files of rounds that were saved, of which a save reads what the catalogue says, or those of one round."""
CATALOGUE_FOLDED = 4096
"""Files that were read before columns are made of them: an object has ten times the bytes of a row."""
CATALOGUE_FILES = 64
"""Files of earlier rounds that a rewriting reads besides, where the catalogue lacks them, or those of one."""
CATALOGUE_MOST_BYTES = 256 << 20
"""A longer catalogue is not read: it would be of two million files."""
LISTINGS = 16
"""Ranges of names of a remote folder that are listed at once, each a thousand names a request."""
LISTED_FILES = 2000
"""Files that are worth a range of their own."""

# Dask

CHUNK_BYTES = 128 << 20
"""The most that a task of Dask reads; a longer array is cut into equal chunks of more than half of it.

The sum of 512 MiB by two threads took 325 ms in chunks of 1 MiB, 149 of 4, 143 of 16, 185 of 64 and 128, 227
of 256. Over a network each chunk is two requests.
"""
CHUNK_ARCHIVES = 64
"""The most archives that a task of Dask opens."""
CHUNK_ALIGN = 4 << 20
"""A multiple of every length of a segment: where a row allows it, chunks end with segments, and none of them
is read twice."""

# The cache of remote archives

CACHE_PIN_BYTES = 256
"""The last bytes of an object that has a cache file already: they say whether it is the same version."""
CACHE_REQUEST_BYTES = 65 << 20
"""What one read of the cache may fetch by one request: a little more than readers ask for at once."""
CACHE_PIECE_BYTES = 4 << 20
"""Such a request ends with a piece of this size: a missing range is divided into pieces."""

# Writing over a network

PART_BYTES = 16 << 20
"""Length of a part, unless that makes too many parts; up to this size an object is put whole."""
PARTS = 4
"""Parts being sent while the next is filled."""
PARTS_BYTES = 64 << 20
"""Bytes of these parts together, where parts have grown: a larger part is sent alone."""
