"""State dicts, Keras names, many arrays, many records: what programs really save."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import archive
from tests.optional import torch

CREATED = "2026-01-02T03:04:05Z"


def make_net() -> Any:
    """Batch norm counters (0-d int64), bfloat16, and an output layer tied to the embedding."""
    nn = torch().nn
    layers = {
        "embed": nn.Embedding(50, 16),
        "norm": nn.BatchNorm1d(16),
        "lower": nn.Linear(16, 16).to(torch().bfloat16),
        "out": nn.Linear(16, 50, bias=False),
    }
    layers["out"].weight = layers["embed"].weight
    return nn.ModuleDict(layers)


def test_a_state_dict_comes_back_whole(tmp_path: Path) -> None:
    state = make_net().state_dict()
    path = tmp_path / "net.h5"
    report = archive.save(state, path)
    assert report.arrays == len(state)
    assert report.array_bytes == sum(t.nbytes for key, t in state.items() if key != "out.weight")
    with archive.open(path) as handle:
        assert handle["norm.num_batches_tracked"].shape == ()
        assert handle["norm.num_batches_tracked"].dtype == "int64"
        assert handle["lower.weight"].dtype == "bfloat16"
        restored = {key: handle[key].torch() for _, key in handle}
    assert list(restored) == list(state)
    for key, tensor in state.items():
        assert restored[key].dtype == tensor.dtype
        assert restored[key].shape == tensor.shape
        assert torch().equal(restored[key], tensor)
    make_net().load_state_dict(restored)
    assert list(archive.load(path).parameters_records["model"].to_torch_state_dict()) == list(state)


def test_tied_tensors_are_hard_links(tmp_path: Path) -> None:
    net, path = make_net(), tmp_path / "net.h5"
    archive.save(net.state_dict(), path)
    with h5py.File(path, "r+") as file:
        group = file["arrays/model"]
        assert group["embed.weight"] == group["out.weight"]
        assert np.array_equal(group["out.weight"][()], net.embed.weight.detach().numpy())
        # h5py hands back bfloat16 as the exact float32
        assert np.array_equal(group["lower.weight"][()], net.lower.weight.detach().float().numpy())
        del group["embed.weight"]
    with h5py.File(path) as file:
        assert "embed.weight" not in file["arrays/model"]
        assert np.array_equal(file["arrays/model/out.weight"][()], net.embed.weight.detach().numpy())


def test_20_000_keras_names(tmp_path: Path) -> None:
    arrays = {f"block_{n}/dense_{n % 7}/kernel:0": np.full(4, n, "f4") for n in range(20_000)}
    path = tmp_path / "keras.h5"
    archive.save(arrays, path, durable=False)
    with archive.open(path) as handle:
        assert [key for _, key in handle] == list(arrays)
        assert handle["block_19999/dense_0/kernel:0"].numpy().tolist() == [19999] * 4
    with h5py.File(path) as file:
        group = file["arrays/model"]
        assert len(group) == 20_000
        for n in (0, 7, 19_999):
            key = f"block_{n}/dense_{n % 7}/kernel:0"
            dataset = group[key.replace("/", "%2F")]
            assert dataset.attrs["key"] == key
            assert dataset[0] == n


@pytest.mark.slow
def test_65_636_arrays_in_one_record(tmp_path: Path) -> None:
    count = 65_536 + 100
    path = tmp_path / "many.h5"
    archive.save({f"a{n}": np.array(n) for n in range(count)}, path, durable=False)
    with archive.open(path) as handle:
        assert len(handle) == count
        assert all(handle[f"a{n}"].numpy() == n for n in (0, 65_534, 65_535, 65_536, count - 1))
    assert archive.verify(path).ok
    loaded = archive.load(path).parameters_records["model"]
    assert [int(array.numpy()) for array in loaded.values()] == list(range(count))
    with h5py.File(path) as file:
        group = file["arrays/model"]
        assert len(group) == count
        assert list(group)[-1] == f"a{count - 1}"
        assert all(group[f"a{n}"][()] == n for n in range(0, count, 997))


@pytest.mark.slow
def test_3_000_records_and_equal_names_in_two_kinds(tmp_path: Path) -> None:
    arrays = {f"round {n}": archive.ArrayRecord({"w": archive.Array(np.full(3, n))}) for n in range(3000)}
    metrics = {f"round {n}": archive.MetricRecord({"loss": n / 7}) for n in range(3000)}
    records = archive.RecordSet(arrays, metrics)
    path = tmp_path / "rounds.h5"
    archive.save(records, path, durable=False)
    with archive.open(path) as handle:
        assert handle["round 2999", "w"].numpy().tolist() == [2999] * 3
        assert handle.records == records
    assert archive.load(path) == records
    with h5py.File(path) as file:
        assert len(file["arrays"]) == len(file["metrics"]) == 3000
        assert file["metrics/round 7"].attrs["loss"] == 1.0


def test_records_of_an_open_archive_saved_again(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        **make_net().state_dict(),
        "f": np.asfortranarray(np.eye(3)),
        "t": np.array(["a", "\u00e9"]),
    }
    first, second = tmp_path / "1.h5", tmp_path / "2.h5"
    archive.save(given, first, created=CREATED, metrics={"a": [1, True]}, configs={"b": b"\0"})
    with archive.open(first) as handle:
        archive.save(handle.records, second, created=CREATED)
        archive.save(handle.records, first, created=CREATED)
    assert second.read_bytes() == first.read_bytes()


IN_PLACE = """
import sys, warnings, hashlib, pathlib, numpy as np, torch, archive
warnings.simplefilter("ignore")
path = pathlib.Path(sys.argv[1])
before = hashlib.sha256(path.read_bytes()).digest()
with archive.open(path) as a:
    for _, key in a:
        expected = a[key].numpy(copy=True)
        tensor = a[key].torch()
        tensor.mul_(0).add_(7)
        assert bool((tensor == 7).all()), key
        assert np.array_equal(a[key].numpy(), expected), f"{key}: torch() is shared"
        assert torch.equal(a[key].torch(), torch.from_numpy(expected)), key
    tensors = [torch.from_numpy(a[key].numpy()) for _, key in a]
    for tensor in tensors:
        tensor.add_(1)
del a
for tensor in tensors:
    tensor.mul_(2)
assert hashlib.sha256(path.read_bytes()).digest() == before, "the file changed"
assert archive.verify(path).ok
print("healthy")
"""


@pytest.mark.slow
def test_in_place_torch_operations_change_neither_file_nor_health(tmp_path: Path) -> None:
    torch()
    path = tmp_path / "m.h5"
    archive.save({"small": np.arange(10.0), "scalar": np.array(3), "large": np.arange(1e6)}, path)
    done = subprocess.run(
        [sys.executable, "-c", IN_PLACE, str(path)], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout) == (0, "healthy\n"), done.stderr


MAPPED = """
import json, sys, archive, numpy
def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
path, verify, warm = sys.argv[1:]
with archive.open(warm, verify=verify) as a:  # modules, thread pool, allocator
    for pair in a:
        a[pair].numpy()
before = anonymous()
a = archive.open(path, verify=verify)
views = [a[pair].numpy() for pair in a]
total = sum(int(view[-1]) for view in views)
print(json.dumps([len(views), sum(view.nbytes for view in views), anonymous() - before]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("verify", ["first", "open", "off"])
def test_mapping_1_1_gigabytes_takes_no_memory(
    tmp_path: Path, verify: str, say: Callable[[str], None]
) -> None:

    one = np.arange(920_000, dtype="f4")
    begun = time.perf_counter()
    archive.save(((f"a{n}", one[: 920_000 - n]) for n in range(300)), tmp_path / "big.h5", durable=False)
    saved = time.perf_counter() - begun
    archive.save([one, one[:-1], one[:-2]], tmp_path / "warm.h5", durable=False)
    done = subprocess.run(
        [sys.executable, "-c", MAPPED, str(tmp_path / "big.h5"), verify, str(tmp_path / "warm.h5")],
        capture_output=True,
        text=True,
        check=True,
    )
    (tmp_path / "big.h5").unlink()
    arrays, nbytes, added = json.loads(done.stdout)
    say(
        f"{arrays} arrays, {nbytes / 1e9:.2f} GB, verify={verify!r}: mapping all adds {added / 1e6:.2f} MB "
        f"of RssAnon (saved in {saved:.2f} s)"
    )
    assert arrays == 300
    assert nbytes > 1.1e9
    assert added < 2e6
