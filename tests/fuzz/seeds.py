"""Write the seeds of the fuzzer: ``python -m tests.fuzz.seeds`` fills ``tests/fuzz/corpus``.

One file an input of `tests.fuzz.target`; which bytes the samples have depends on the writer, so that a
new format means new seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from archive.descriptions import describe_dtype
from archive.format.constants import DATA_AT
from archive.npy import npy_header
from tests.fuzz.target import SAMPLES, index_of, json_of

CORPUS = Path(__file__).parent / "corpus"
DTYPES = (
    "<f4", ">i8", "|b1", "<c8", "<M8[ns]", "|S3", "|V5", "<U3", "<f2",
    [("a", "<i4"), ("b", "<f8", (2,))], [("a", [("n", "|u1")]), ("\u0444", "<U2")],
)  # fmt: skip


def seeds() -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of every seed."""
    for number, sample in enumerate(SAMPLES):
        variant = bytes([number])
        yield f"file-{number}", b"\0" + variant + sample[DATA_AT:]
        yield f"index-{number}", b"\1" + variant + index_of(sample)
        yield f"json-{number}", b"\2" + variant + json_of(sample)
    special = ["x", ["floats", ["nan", "inf", "7ff0000000000001", 1.5]]]
    numbers = ["x", ["ints", ["18446744073709551615", 1, True]]]
    texts = ["x", ["strs", ["a", "\u4e2d"]]]
    attributes = [["packer", ["str", "named"]], ["version", ["int", 1]]]
    documents: list[dict[str, object]] = [
        {"values": [["metrics", "m", [special]]]},
        {"values": [["configs", "c", [texts, ["y", ["bytess", ["AA=="]]]]]]},
        {"values": [["configs", "c", [numbers, ["y", ["list", []]]]]]},
        {"attributes": [["a", attributes]]},
    ]
    head: dict[str, object] = {"container": "recorddict", "created": "2026-01-02T03:04:05Z", "writer": "x"}
    for number, document in enumerate(documents):
        yield f"json-values-{number}", b"\2\1" + json.dumps(head | document).encode()
    types = [np.dtype(spelled) for spelled in DTYPES]
    types += [np.dtype(ml_dtypes.bfloat16), np.dtype(ml_dtypes.int4)]
    for number, dtype in enumerate(types):
        text, name = describe_dtype(dtype).encode(), str(dtype).encode()
        header = npy_header(dtype, (2, 3))
        yield f"type-{number}", b"\3\0" + b"\xff".join((text, name, b"", b"\2\3", b"abc"))
        if b"\xff" not in header:
            yield f"header-{number}", b"\3\0" + b"\xff".join((text, name, header, b"\2\3", b"a"))
        yield f"data-{number}", b"\4\0" + header + bytes(6 * dtype.itemsize)
    yield "data-zip", b"\4\0PK\x03\x04" + bytes(40)
    yield "data-pickle", b"\4\0\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x05posix\x94."
    for number, stored in enumerate(
        (
            b"bytes",
            "gr\u00fcn".encode(),
            bytes(16),
            bytes(16),
            b"\1\0",
            b'["strs", ["a"]]',
            b'["bytess", ["AA=="]]',
        )
    ):
        column = {2: 9, 3: 18, 4: 27}.get(number, 0)
        yield f"value-{number}", bytes([5, number + column]) + stored


def main() -> None:
    """Write them."""
    CORPUS.mkdir(exist_ok=True)
    for name, data in seeds():
        (CORPUS / name).write_bytes(data)


if __name__ == "__main__":
    main()
