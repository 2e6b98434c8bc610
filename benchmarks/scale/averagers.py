"""Means of client files as people write them today; each runs in a process of its own.

``python -m benchmarks.scale.averagers NAME CASE.json`` imports numpy and the library of that name alone: some
run under interpreters that do not have fedarchive. All weigh clients, and all but Flower's sum in float64. A
process writes the mean in its own format, and then what `alternatives` looks at: seconds since its start,
processor time, NaN, and a sample of the elements.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["AVERAGERS", "SAMPLE", "sample"]

SAMPLE = 4096
"""Elements of each array that are compared with the exact mean."""
BATCH = 64
"""Clients a task of Dask's: what SCALE's mean opens at once too."""

Mean = dict[str, Any]


def fedarchive(case: dict[str, Any]) -> Mean:
    """``archive.mean``: every byte is verified."""
    import archive

    report = archive.mean(f"{case['folder']}/archive/*.h5", case["weights"], out=case["out"], durable=False)
    case["told"] = [f"{Path(one.path).name}: {one.error}" for one in report.skipped]
    return _saved_mean(case["out"])


def fedarchive_skip(case: dict[str, Any]) -> Mean:
    """``archive.mean(errors="skip")``."""
    import archive

    urls = f"{case['folder']}/archive/*.h5"
    report = archive.mean(urls, case["weights"], out=case["out"], durable=False, errors="skip")
    case["told"] = [f"left out: {Path(one.path).name}" for one in report.skipped]
    return _saved_mean(case["out"])


def _saved_mean(out: str) -> Mean:
    """Return views of the file: they are no memory of the process."""
    import archive

    saved = archive.open(out)
    return {key: saved[record, key].numpy() for record, key in saved}


def torch_loop(case: dict[str, Any]) -> Mean:
    """``torch.load(weights_only=True, mmap=True)``, one file at a time."""
    import torch

    sums: Mean = {}
    for path, weight in _files(case, "torch"):
        for key, tensor in torch.load(path, weights_only=True, mmap=True).items():
            product = tensor.double() * weight
            sums[key] = sums[key].add_(product) if key in sums else product
    mean = {key: (found / sum(case["weights"])).float() for key, found in sums.items()}
    torch.save(mean, case["out"])
    return {key: tensor.numpy() for key, tensor in mean.items()}


def safetensors_loop(case: dict[str, Any]) -> Mean:
    """``safetensors.numpy.load_file``, one file at a time."""
    from safetensors.numpy import load_file, save_file

    mean = _divide(_add_up((load_file(path), weight) for path, weight in _files(case, "safetensors")), case)
    save_file(mean, case["out"])
    return mean


def savez_loop(case: dict[str, Any]) -> Mean:
    """``np.load`` of what ``np.savez`` wrote, one file at a time."""
    mean = _divide(_add_up((_npz(path), weight) for path, weight in _files(case, "npz")), case)
    np.savez(f"{case['out']}.npz", **mean)
    return mean


def flwr_aggregate(case: dict[str, Any]) -> Mean:
    """Flower's ``aggregate``, as `FedAvg(inplace=False)` calls it: all clients are in memory."""
    from flwr.server.strategy.aggregate import aggregate

    results = [(list(_npz(path).values()), int(weight)) for path, weight in _files(case, "npz")]
    return _timed(case, lambda: aggregate(results))


def flwr_inplace(case: dict[str, Any]) -> Mean:
    """Flower's ``aggregate_inplace``, as `FedAvg` calls it: all clients are in memory, as bytes."""
    from flwr.common import Code, FitRes, Status, ndarrays_to_parameters
    from flwr.server.strategy.aggregate import aggregate_inplace

    results: Any = []
    for path, weight in _files(case, "npz"):
        parameters = ndarrays_to_parameters(list(_npz(path).values()))
        results.append((None, FitRes(Status(Code.OK, ""), parameters, int(weight), {})))
    return _timed(case, lambda: aggregate_inplace(results))


def flwr_records(case: dict[str, Any]) -> Mean:
    """Flower's ``aggregate_arrayrecords`` of the message API: all clients are in memory, as bytes."""
    from flwr.common import Array, ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    replies = []
    for path, weight in _files(case, "npz"):
        model = ArrayRecord({key: Array(values) for key, values in _npz(path).items()})
        replies.append(RecordDict({"arrays": model, "metrics": MetricRecord({"num-examples": int(weight)})}))
    return _timed(
        case,
        lambda: [array.numpy() for array in aggregate_arrayrecords(replies, "num-examples").values()],
    )


def _timed(case: dict[str, Any], call: Callable[[], list[Any]]) -> Mean:
    begin = time.perf_counter()
    found = call()
    case["call"] = time.perf_counter() - begin
    mean: Mean = {f"{number:03d}": np.asarray(values, "f4") for number, values in enumerate(found)}
    np.savez(f"{case['out']}.npz", **mean)
    return mean


def dask_delayed(case: dict[str, Any]) -> Mean:
    """``dask.delayed`` over batches of 64 plain h5py files, threads."""
    import dask
    import h5py

    def batch_sum(files: list[tuple[str, float]]) -> Mean:
        def read(path: str) -> Mean:
            with h5py.File(path) as file:
                return {key: dataset[:] for key, dataset in file.items()}

        return _add_up((read(path), weight) for path, weight in files)

    def total(parts: list[Mean]) -> Mean:
        return {key: sum(part[key] for part in parts) for key in parts[0]}

    files = [(str(path), weight) for path, weight in _files(case, "h5py")]
    parts = [dask.delayed(batch_sum)(files[at : at + BATCH]) for at in range(0, len(files), BATCH)]
    (found,) = dask.compute(dask.delayed(total)(parts))
    return _write_h5py(_divide(found, case), case)


def dask_array(case: dict[str, Any]) -> Mean:
    """``dask.array``: a stack of the clients' datasets, and its average, threads."""
    import dask
    import dask.array as da
    import h5py

    files = [h5py.File(path) for path, _ in _files(case, "h5py")]
    means = {}
    for key in files[0]:
        stack = da.stack([da.from_array(file[key], chunks=-1) for file in files])
        means[key] = da.average(stack.astype("f8"), axis=0, weights=np.array(case["weights"]))
    (found,) = dask.compute(means)
    for file in files:
        file.close()
    return _write_h5py({key: values.astype("f4") for key, values in found.items()}, case)


def _write_h5py(mean: Mean, case: dict[str, Any]) -> Mean:
    import h5py

    with h5py.File(case["out"], "w") as file:
        for key, values in mean.items():
            file[key] = values
    return mean


def _files(case: dict[str, Any], kind: str) -> Iterable[tuple[Path, float]]:
    return zip(sorted(Path(case["folder"], kind).iterdir()), case["weights"], strict=True)


def _npz(path: Path) -> Mean:
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def _add_up(clients: Iterable[tuple[Mean, float]]) -> Mean:
    sums: Mean = {}
    for arrays, weight in clients:
        for key, values in arrays.items():
            product = np.multiply(values, weight, dtype=np.float64)
            if key in sums:
                sums[key] += product
            else:
                sums[key] = product
    return sums


def _divide(sums: Mean, case: dict[str, Any]) -> Mean:
    total = sum(case["weights"])
    return {key: (found / total).astype("f4") for key, found in sums.items()}


def sample(values: Any) -> Any:
    """Return elements of an array that are compared: the first, the last, and equal steps between."""
    return values[np.linspace(0, len(values) - 1, min(SAMPLE, len(values))).astype(np.int64)]


AVERAGERS: dict[str, tuple[Callable[[dict[str, Any]], Mean], str]] = {
    "fedarchive": (fedarchive, ""),
    "fedarchive, skip": (fedarchive_skip, ""),
    "torch": (torch_loop, "torch"),
    "safetensors": (safetensors_loop, "safetensors"),
    "np.savez": (savez_loop, "numpy"),
    "flwr aggregate": (flwr_aggregate, "flwr"),
    "flwr aggregate_inplace": (flwr_inplace, "flwr"),
    "flwr aggregate_arrayrecords": (flwr_records, "flwr"),
    "dask.delayed": (dask_delayed, "dask"),
    "dask.array": (dask_array, "dask"),
}
"""By name: the function, and the distribution that it measures."""


def main(name: str, told: str) -> int:
    """Average, and print what came of it."""
    case = json.loads(Path(told).read_text())
    function, distribution = AVERAGERS[name]
    mean = function(case)
    found = {"seconds": time.time() - case["begun"], "cpu": time.process_time()}
    found |= {key: case[key] for key in ("call", "told") if key in case}
    found["nan"] = int(sum(np.count_nonzero(np.isnan(values)) for values in mean.values()))
    found["version"] = importlib.metadata.version(distribution) if distribution else ""
    samples: Mean = {key: sample(values) for key, values in sorted(mean.items())}
    np.savez(case["samples"], **samples)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
