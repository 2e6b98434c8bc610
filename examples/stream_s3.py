"""Stream one layer of a checkpoint on S3 (or of any URL or path), and sum it up in one pass.

    python stream_s3.py s3://bucket/runs/adam/rounds/00000080.h5 fc.weight

Opening is one request. Each block of rows is one more, of the bytes that it needs, and is compared with its
digests before it is used: a layer that is larger than memory takes the memory of a block. Credentials come
from the environment, as of any S3 client: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator

import numpy as np

import archive
from archive.types import NDArray


def stream(url: str, key: str, block_bytes: int) -> Iterator[NDArray]:
    """Yield the rows of an array in blocks of about so many bytes."""
    with archive.open(url) as saved:
        layer = saved[key]
        rows = max(1, block_bytes * layer.shape[0] // max(1, layer.nbytes)) if layer.shape else 1
        for start in range(0, layer.shape[0], rows):
            yield layer[start : start + rows]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--block-bytes", type=int, default=16 << 20)
    options = parser.parse_args()
    blocks = rows = 0
    low, high, squares = math.inf, -math.inf, 0.0
    for block in stream(options.url, options.key, options.block_bytes):
        values = block.astype(np.float64)  # bfloat16 too
        blocks, rows = blocks + 1, rows + len(block)
        low, high = min(low, values.min()), max(high, values.max())
        squares += np.square(values).sum()
    print(f"{options.key}: {rows} rows in {blocks} blocks, {low:g} to {high:g}, norm {math.sqrt(squares):g}")


if __name__ == "__main__":
    main()
