"""Archives of records, values, names, states and stores, and what other tools made of archives."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import archive
from archive.dtypes import NDArray
from tests.hdf5tools.expected import Node, Tree, expect
from tests.hdf5tools.registry import CREATED, KINDS, Kind, MissingError, kind

__all__: list[str] = []


def configs(values: Mapping[str, Any]) -> archive.RecordSet:
    return archive.RecordSet({}, {}, {"run": archive.ConfigRecord(dict(values))})


def metrics(values: Mapping[str, Any]) -> archive.RecordSet:
    return archive.RecordSet({}, {"fit": archive.MetricRecord(dict(values))}, {})


@kind("metrics: numbers and lists")
def _(path: Path) -> Any:
    return metrics({"loss": 0.25, "epochs": 3, "curve": [0.5, 0.25], "steps": [1, -2], "nan": float("nan")})


@kind("an empty list")
def _(path: Path) -> Any:
    return metrics({"none": [], "loss": 0.5})


@kind("a record of nine metrics")
def _(path: Path) -> Any:
    return metrics({f"metric{number}": number / 2 for number in range(9)})


@kind("a record of 300 configs")
def _(path: Path) -> Any:
    return configs({f"setting{number:03}": number for number in range(300)})


@kind("configs: bool, int, float, their lists")
def _(path: Path) -> Any:
    values = {"flag": True, "flags": [True, False], "n": -5, "rates": [0.1, 1e300]}
    return configs({**values, "large": 2**64 - 1, "larger": [0, 2**63]})


@kind("configs: texts, lists of texts")
def _(path: Path) -> Any:
    return configs({"name": "naïve 鳥", "names": ["a", "", "é"], "none": "", "lines": 'a\nb\t"c"\\'})


@kind("configs: bytes, texts with NUL")
def _(path: Path) -> Any:
    return configs({"blob": b"\0\xff", "blobs": [b"a", b""], "nul": "a\0b", "nuls": ["a\0", "b"]})


@kind("configs: empty bytes")
def _(path: Path) -> Any:
    return configs({"nothing": b"", "n": 1})


@kind("texts of 60,000 characters and more")
def _(path: Path) -> Any:
    return configs({"long": "x" * 59_000, "longer": "é" * 100_000})


@kind("long lists, long bytes")
def _(path: Path) -> Any:
    return configs(
        {"curve": [0.5] * 9000, "flags": [True] * 9000, "steps": [7] * 9000, "blob": b"ab" * 50_000}
    )


@kind("names in other scripts")
def _(path: Path) -> Any:
    return archive.RecordSet(
        {
            "模型": archive.ArrayRecord(
                {"вес.0": archive.Array(np.ones(2)), "é e\u0301": archive.Array(np.ones(1))}
            )
        },
        {"métriques": archive.MetricRecord({"précision": 0.5})},
        {"設定": archive.ConfigRecord({"学習率": 0.1, "emoji 🦜": "🦜"})},
    )


@kind("names of nested layers, with `/`")
def _(path: Path) -> dict[str, NDArray]:
    return {name: np.ones(2, "<f4") for name in ("encoder/layer.0/w", "encoder/layer.0/b", "dense/kernel:0")}


@kind("hostile names")
def _(path: Path) -> Any:
    names = ["", ".", "..", " a", "a\nb", "\x1b[31m", "%2F", "a\0b", "__proto__", "</DataSet>"]
    return archive.RecordSet(
        {"model": archive.ArrayRecord({name: archive.Array(np.array([1.5], "<f4")) for name in names})},
        {},
        {"run": archive.ConfigRecord(dict.fromkeys(names, 1))},
    )


@kind("names of 300 letters")
def _(path: Path) -> Any:
    name = "x" * 300
    return archive.RecordSet(
        {"model": archive.ArrayRecord({name: archive.Array(np.array([1.5], "<f4"))})},
        {},
        {"run": archive.ConfigRecord({name: 1})},
    )


@kind("names that tools give a meaning")
def _(path: Path) -> Any:
    names = (
        "CLASS",
        "NAME",
        "DIMENSION_LIST",
        "_FillValue",
        "_Netcdf4Dimid",
        "units",
        "scale_factor",
        "TITLE",
    )
    return archive.RecordSet(
        {"model": archive.ArrayRecord({name: archive.Array(np.ones(2, "<f4")) for name in names})},
        {},
        {"run": archive.ConfigRecord(dict.fromkeys(names, "text"))},
    )


@kind("records of an empty RecordSet")
def _(path: Path) -> Any:
    return archive.RecordSet({"model": archive.ArrayRecord({})}, {"fit": archive.MetricRecord({})}, {})


@kind("a RecordDict")
def _(path: Path) -> Any:
    return archive.RecordDict(
        {
            "fit": archive.MetricRecord({"loss": 0.5}),
            "model": archive.ArrayRecord({"w": archive.Array(np.ones((2, 2)))}),
            "run": archive.ConfigRecord({"lr": 0.1}),
        }
    )


@kind("attributes of a record")
def _(path: Path) -> Any:
    record = archive.ArrayRecord({"w": archive.Array(np.ones(2))})
    record.attributes.update({"packer": "fedopt", "names": ["a", "b"], "rounds": 3})
    return archive.RecordSet({"model": record}, {}, {})


@kind("a Context")
def _(path: Path) -> Any:
    state = archive.RecordDict({"model": archive.ArrayRecord({"w": archive.Array(np.ones(2))})})
    return archive.Context(
        run_id=2**63 + 7, node_id=7, node_config={"partition-id": 0}, state=state, run_config={"lr": 0.1}
    )


@kind("a state of torch")
def _(path: Path) -> None:
    try:
        import torch
    except ImportError as error:
        raise MissingError("torch") from error
    from archive.interop.torch import save_state

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    half = torch.ones(3, dtype=torch.bfloat16)
    state = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "half": half, "epoch": 3}
    save_state(state, path, created=CREATED, durable=False)


@kind("a sparse matrix of torch")
def _(path: Path) -> None:
    try:
        import torch
    except ImportError as error:
        raise MissingError("torch") from error
    from archive.interop.torch import save_state

    save_state({"w": torch.eye(3).to_sparse()}, path, created=CREATED, durable=False)


def stored(path: Path, name: str) -> None:
    """Save a round and a client's file of it in a store, and keep the file of one."""
    folder = path.with_suffix(".run")
    store = archive.CheckpointStore(folder)
    store.save({"drift": np.full(2, 0.5, "<f4")}, 3, client="client-7", metrics={"examples": 12})
    store.save({"w": np.ones((2, 3), "<f4")}, 3, metrics={"loss": 0.5}, configs={"lr": 0.1})
    files = [found for found in folder.rglob("*.h5") if ("client" in found.as_posix()) == (name == "client")]
    shutil.copy(files[0], path)
    shutil.rmtree(folder)


@kind("a round of a store")
def _(path: Path) -> None:
    stored(path, "round")


@kind("a client's file of a store")
def _(path: Path) -> None:
    stored(path, "client")


@kind("5,000 arrays", is_slow=True)
def _(path: Path) -> dict[str, NDArray]:
    return {f"layer{number}.weight": np.full(4, number, "<f4") for number in range(5000)}


@kind("nine records")
def _(path: Path) -> Any:
    record = archive.ArrayRecord({"w": archive.Array(np.ones(2))})
    return archive.RecordSet({f"model{number}": record for number in range(9)}, {}, {})


@kind("tied arrays")
def _(path: Path) -> Any:
    tied = archive.Array(np.arange(6, dtype="<f4").reshape(2, 3))
    model = archive.ArrayRecord({"embedding": tied, "a/head": tied, "bias": archive.Array(np.ones(2))})
    return archive.RecordSet({"model": model, "copy": archive.ArrayRecord({"w": tied})}, {}, {})


def sample(path: Path) -> Tree:
    """Save a bit of everything, and return its tree."""
    records = archive.RecordSet(
        {
            "model": archive.ArrayRecord(
                {f"w{number}": archive.Array(np.full(3, number)) for number in range(12)}
            )
        },
        {"fit": archive.MetricRecord({f"metric{number}": number / 4 for number in range(12)})},
        {"run": archive.ConfigRecord({"lr": 0.1, "names": ["a", "b"], "flag": True})},
    )
    archive.save(records, path, created=CREATED, durable=False)
    return expect(path)


@kind("edited in place by h5py")
def _(path: Path) -> Tree:
    tree = sample(path)
    new = np.arange(4, dtype="<i4")
    with h5py.File(path, "r+") as file:
        file["arrays/model/w3"][1] = 77
        file["arrays/model"].attrs["note"] = "looked at"
        file["arrays/model/new"] = new
        del file["arrays/model/w5"]
        del file["metrics/fit"].attrs["metric7"]
    found = {place: node for place, node in tree.items() if place != "/arrays/model/w5"}
    data = np.array([3, 77, 3])
    found["/arrays/model/w3"] = replace(tree["/arrays/model/w3"], data=data)
    found["/arrays/model"].attrs["note"] = "looked at"
    del found["/metrics/fit"].attrs["metric7"]
    found["/arrays/model/new"] = Node(new)
    return found


def repacked(path: Path) -> Tree:
    """Save a bit of everything; `rewritten` does the rest."""
    if shutil.which("h5repack") is None:
        raise MissingError("h5repack")
    return sample(path)


KINDS += [
    Kind("after h5repack", repacked, ("h5repack",)),
    Kind("after h5repack, compressed", repacked, ("h5repack", "-l", "CHUNK=3", "-f", "GZIP=4")),
]
