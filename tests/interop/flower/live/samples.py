"""Records of every kind, made with the names of either library."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from tests.interop.flower.live.names import Names, make_array, make_records

RUN_ID = 2**63 + 12345
NDARRAYS: dict[str, np.ndarray[Any, Any]] = {
    **{
        kind: np.arange(6).astype(kind).reshape(2, 3)
        for kind in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
    },
    "big endian": np.arange(4, dtype=">f4"),
    "0-d": np.array(1.5),
    "empty": np.zeros((0, 3), "f4"),
    "fortran": np.asfortranarray(np.arange(12, dtype="f8").reshape(3, 4)),
    "strided": np.arange(20)[::3],
    "str": np.array(["a", "bcé", ""]),
    "bytes": np.array([b"a", b"bc\0d"]),
    "datetime": np.array(["2026-01-01", "NaT"], "M8[s]"),
    "structured": np.array([(1, 2.5), (3, -0.0)], [("a", "i4"), ("b", "f8")]),
    "nan": np.array([np.nan, -np.inf, -0.0]),
    "keys/with slash, ünïcode and .": np.ones(3, "f4"),
    "large": np.arange(300_000, dtype="f4"),
}
METRICS: dict[str, Any] = {
    "loss": 0.1 + 0.2,
    "count": 3,
    "negative": -(2**63),
    "most": 2**64 - 1,
    "nan": float("nan"),
    "inf": [float("inf"), -0.0],
    "float64": np.float64(0.25),
    "ints": [1, 2, 3],
    "flags among ints": [1, True],
    "none": [],
    "long": [0.5] * 3000,
}
CONFIGS: dict[str, Any] = {
    **METRICS,
    "lr": 0.1,
    "flag": True,
    "flags": [True, False],
    "text": "ünïcode\0nul\nline",
    "no text": "",
    "texts": ["a", "", "ü"],
    "blob": b"\x00\xff\x80",
    "no blob": b"",
    "blobs": [b"a", b"", b"\xff"],
    "long blob": bytes(range(256)) * 100,
}
NODE = {"partition-id": 3, "num-partitions": 10, "flag": False, "ratio": 0.5, "name": "nöde"}
RUN = {"lr": 1e-3, "num-server-rounds": 3, "fraction": 0.1, "nesterov": True, "model": "a/b"}


def plain_arrays(lib: Names) -> dict[str, Any]:
    return {key: lib.array_from_numpy(ndarray) for key, ndarray in NDARRAYS.items()}


def odd_arrays(lib: Names) -> dict[str, Any]:
    """Return arrays whose data is no ``.npy``, or a ``.npy`` of other dtype and shape."""
    brain = np.arange(5).astype(ml_dtypes.bfloat16)
    npy = lib.array_from_numpy(np.ones(2)).data
    return {
        "tobytes": make_array(lib, "float32", (2,), "numpy.ndarray.tobytes", np.ones(2, "f4").tobytes()),
        "no stype": make_array(lib, "int64", (1,), "", b"\1\0\0\0\0\0\0\0"),
        "nothing known": make_array(lib, "", (), "", b"any bytes at all"),
        "no data": make_array(lib, "float32", (0,), "", b""),
        "bfloat16 bytes": make_array(lib, "bfloat16", (5,), "torch.bfloat16", brain.tobytes()),
        "bfloat16 npy": lib.array_from_numpy(brain),
        "torch dtype": make_array(lib, "torch.float32", (1,), "torch.save", b"PK\3\4 no numpy"),
        "invalid npy": make_array(lib, "float32", (2,), "numpy.ndarray", b"\x93NUMPY broken"),
        "npy of other shape": make_array(lib, "float64", (7,), "numpy.ndarray", npy),
        "large and foreign": make_array(lib, "x", (9, 9), "y", bytes(range(256)) * 4096),
    }


def all_records(lib: Names) -> Any:
    """Return every kind of record in one container, the kinds mixed."""
    return make_records(
        lib,
        {
            "z-metrics": lib.Metrics(dict(METRICS)),
            "model": lib.Arrays(plain_arrays(lib)),
            "a-configs": lib.Configs(dict(CONFIGS)),
            "odd": lib.Arrays(odd_arrays(lib)),
            "empty arrays": lib.Arrays({}),
            "empty metrics": lib.Metrics(),
            "empty configs": lib.Configs(),
        },
    )
