"""The command: ``python -m benchmarks.scale CASE``: means and tables of many archives, against their goals.

Each mean runs in a process of its own, whose anonymous memory is watched every 2 ms. ``small`` runs under a
limit of 256 open files, ``large`` in a control group of 512 MB (root; version 1), from files and from nginx
where there is one, ``s3`` against moto through a proxy that counts, or against the server that FEDARCHIVE_S3
names (``python -m tests.servers.ceph`` starts one), ``s3convert`` beside boto3 and s3fs there; ``peer``
beside safetensors and numpy. ``table`` makes tables of 100,000 archives in one process, in
two, and in those of Dask where it is installed. ``benchmarks.scale.alternatives`` has the other peers,
``benchmarks.scale.simulate`` what a million clients would take. ``history`` is of 10,000 rounds of 20 metrics
and 20 clients in a bucket that answers after 20 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import archive
from benchmarks.scale import objects, tabling
from benchmarks.scale.watching import watch

GROUPS = Path("/sys/fs/cgroup/memory")


def main() -> int:
    """Measure one case, print its figures, and fail where a goal is missed."""
    options = _parser().parse_args()
    if options.child:
        return int(CHILDREN[options.child](json.loads(Path(options.case[1:]).read_text())))
    folder = Path(tempfile.mkdtemp(prefix="fedarchive-scale-", dir=options.folder))
    try:
        missed = CASES[options.case](folder, options)
    finally:
        shutil.rmtree(folder)
    for line in missed:
        print(f"  goal missed: {line}")
    return bool(missed)


def small(folder: Path, options: argparse.Namespace) -> list[str]:
    """Ten thousand archives of 20 arrays, 0.3 MB."""
    clients = options.clients or 10_000
    _save_clients(folder, clients, arrays=20, nbytes=300_000)
    found = _run(
        "mean", {"urls": f"{folder}/*.h5", "out": f"{folder}/mean", "scratch": f"{folder}/s"}, files=256
    )
    each = found["seconds"] / clients * 1000
    print(
        f"small: {clients} archives of 0.3 MB: {each:.2f} ms each ({_cpu(found, clients)}), {_memory(found)}"
    )
    return _missed(("ms an archive", each, 1.2), ("MB of anonymous memory", found["anon"] / 1e6, 256))


def s3(folder: Path, options: argparse.Namespace) -> list[str]:
    """A thousand archives of 289 arrays, 5 MB, in objects; scratch local. The bits are those of the files."""
    from tests.servers.proxy import Proxy
    from tests.servers.s3 import BUCKET, s3_server

    clients, nbytes = options.clients or 1000, options.nbytes or 5_000_000
    arrays = 289 if nbytes < 100_000_000 else 16
    paths = [folder / f"{number:05d}.h5" for number in range(clients)]
    keys = [f"{folder.name}/{path.name}" for path in paths]
    given = {"scratch": f"{folder}/s", "created": "2026-01-01T00:00:00Z"}
    keep = clients * nbytes <= 8 << 30
    with s3_server() as server, Proxy(server.endpoint) as proxy:

        def upload(number: int) -> int:
            _save_client(paths[number], number, arrays=arrays, nbytes=nbytes)
            server.client.upload_file(str(paths[number]), BUCKET, keys[number])
            length = paths[number].stat().st_size
            if not keep:
                paths[number].unlink()
            return length

        with ThreadPoolExecutor(2) as pool:
            lengths = list(pool.map(upload, range(clients)))
        try:
            case: dict[str, Any] = {"urls": [f"s3://{BUCKET}/{key}" for key in keys], **given}
            case |= {"out": f"{folder}/mean", "storage_options": server.options(proxy.endpoint)}
            found = _run("mean", case, cap=options.cap)
        finally:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda key: server.client.delete_object(Bucket=BUCKET, Key=key), keys))
        requests, share = len(proxy.seen), proxy.bytes_sent / sum(lengths)
    if keep:
        _run("mean", {"urls": [str(path) for path in paths], "out": f"{folder}/files", **given})
    same = not keep or (folder / "files").read_bytes() == (folder / "mean").read_bytes()
    print(
        f"s3: {server.name}, {clients} archives of {nbytes / 1e6:.0f} MB, {arrays} arrays: {requests} "
        f"requests, {share:.4f} of the bytes, {('equal' if same else 'other') if keep else 'unknown'} bits, "
        f"{found['seconds']:.1f} s, {_memory(found)}"
    )
    return _missed(
        ("requests an archive", requests / clients, 2.1 + nbytes // (8 << 20)),
        ("of the bytes of the files", share, 1.01),
        ("means of other bits", float(not same), 0),
        ("MB of anonymous memory", found["anon"] / 1e6, 192),
    )


def large(folder: Path, options: argparse.Namespace) -> list[str]:
    """Sixteen archives of 1 GB under a cap of 512 MB, as files and as objects of a server of ranges."""
    from tests.servers import nginx

    clients, nbytes = options.clients or 16, options.nbytes or 1 << 30
    for number in range(clients):
        path = folder / "data" / "bucket" / f"client{number:02d}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        _save_client(path, number, arrays=nbytes // (64 << 20) or 1, nbytes=nbytes)
    missed = []
    with ExitStack() as stack:
        places: dict[str, dict[str, Any]] = {"files": {"urls": f"{folder}/data/bucket/*.h5"}}
        if nginx.is_installed():
            options_of = {"anon": True, "endpoint_url": stack.enter_context(nginx.running(folder))}
            names = [f"s3://bucket/client{number:02d}.h5" for number in range(clients)]
            places["S3 protocol"] = {"urls": names, "storage_options": options_of}
        for where, given in places.items():
            found = _run("mean", given | {"out": f"{folder}/mean"}, cap=512 << 20)
            rate = clients * nbytes / found["seconds"] / 1e9
            print(
                f"large: {clients} archives of {nbytes / 1e9:.2f} GB, {where}, cap 512 MB: "
                f"{found['seconds']:.1f} s, {rate:.2f} GB/s, {_memory(found)}"
            )
            missed += _missed((f"MB of anonymous memory, {where}", found["anon"] / 1e6, 192))
    return missed


def peer(folder: Path, options: argparse.Namespace) -> list[str]:
    """A thousand archives against safetensors and numpy, one file at a time, interleaved."""
    clients, nbytes = options.clients or 1000, options.nbytes or 1_200_000
    _save_clients(folder, clients, arrays=20, nbytes=nbytes)
    ours = {"urls": f"{folder}/*.h5", "out": f"{folder}/mean", "weights": [1.0 + n for n in range(clients)]}
    theirs = {"folder": str(folder), "weights": ours["weights"]}
    _run("convert", theirs)
    times: dict[str, list[dict[str, Any]]] = {"ours": [], "theirs": []}
    for _ in range(options.runs):
        times["ours"].append(_run("mean", ours))
        times["theirs"].append(_run("safetensors", theirs))
    best = {name: min(runs, key=lambda run: run["seconds"]) for name, runs in times.items()}
    share = best["ours"]["seconds"] / best["theirs"]["seconds"]
    for name, found in best.items():
        print(f"peer: {name}: {found['seconds']:.2f} s ({_cpu(found, clients)}), {_memory(found)}")
    print(
        f"peer: {clients} archives of {nbytes / 1e6:.1f} MB: {share:.2f} of the time of safetensors and numpy"
    )
    return _missed(("of the time of the peer", share, 0.7))


def table(folder: Path, options: argparse.Namespace) -> list[str]:
    """A hundred thousand archives of three small arrays, 10 metrics and 5 configs."""
    return _missed(*tabling.table(folder, options))


def history(folder: Path, options: argparse.Namespace) -> list[str]:
    """Ten thousand rounds of 20 metrics and 20 clients, in objects 20 ms away."""
    from benchmarks.scale.runs import measure_histories

    missed = []
    for found in measure_histories(folder, options):
        requests, what = sum(found.requests.values()), f"clients={found.clients}"
        how = "with a catalogue" if found.catalogue else "without"
        print(
            f"history: {found.rounds} rounds, {what}, {how}: {found.seconds:.2f} s "
            f"({found.cpu:.2f} s of processor), {requests} requests "
            f"({found.requests})",
            flush=True,
        )
        if found.catalogue:
            names = found.rounds * (options.clients or 20) // 1000 if found.clients else 0
            missed += _missed(
                (f"s, {what}", found.seconds, 3), (f"requests, {what}", requests, 80 + 1.1 * names)
            )
    return missed


def _missed(*goals: tuple[str, float, float]) -> list[str]:
    return [f"{found:.3g} {what}, at most {most}" for what, found, most in goals if found > most]


def _memory(found: dict[str, Any]) -> str:
    return f"{found['anon'] / 1e6:.0f} MB of anonymous memory"


def _cpu(found: dict[str, Any], clients: int) -> str:
    return f"{found['cpu'] / clients * 1000:.2f} ms of processor"


def _save_clients(folder: Path, clients: int, *, arrays: int, nbytes: int) -> None:
    for number in range(clients):
        _save_client(folder / f"client{number:05d}.h5", number, arrays=arrays, nbytes=nbytes)


def _save_client(path: Path, number: int, *, arrays: int, nbytes: int) -> None:
    size = nbytes // 4 // arrays
    base = np.random.default_rng(7).standard_normal(min(size, 1 << 20), "f4")

    def layers() -> Iterator[tuple[str, Any]]:
        for layer in range(arrays):
            yield f"layer{layer:03d}.weight", np.resize(base + np.float32(number + layer), size)

    archive.save(layers(), path, durable=False, metrics={"num-examples": number + 1})


def child_mean(case: dict[str, Any]) -> dict[str, Any]:
    """Average."""
    urls, weights = case.pop("urls"), case.pop("weights", None)
    report = archive.mean(urls, weights, durable=False, **case)
    return {"inputs": report.inputs}


def child_convert(case: dict[str, Any]) -> dict[str, Any]:
    """Write the archives as safetensors files."""
    from safetensors.numpy import save_file

    for path in sorted(Path(case["folder"]).glob("*.h5")):
        records: Any = archive.load(path)
        save_file(
            {key: array.numpy() for key, array in records["model"].items()}, path.with_suffix(".safetensors")
        )
    return {}


def child_safetensors(case: dict[str, Any]) -> dict[str, Any]:
    """Average safetensors files one at a time, in float64."""
    from safetensors.numpy import load_file, save_file

    folder, sums = Path(case["folder"]), dict[str, Any]()
    for path, weight in zip(sorted(folder.glob("*.safetensors")), case["weights"], strict=True):
        for key, values in load_file(path).items():
            product = np.multiply(values, weight, dtype=np.float64)
            if key in sums:
                sums[key] += product
            else:
                sums[key] = product
    total = sum(case["weights"])
    save_file({key: (found / total).astype("f4") for key, found in sums.items()}, folder / "mean.st")
    return {}


def _child(call: Any) -> Any:
    def run(case: dict[str, Any]) -> int:
        begin, cpu = time.perf_counter(), time.process_time()
        found = call(case)
        seconds, spent = time.perf_counter() - begin, time.process_time() - cpu
        print(json.dumps(found | {"seconds": seconds, "cpu": spent}))
        return 0

    return run


def _run(name: str, case: dict[str, Any], *, files: int = 0, cap: int = 0) -> dict[str, Any]:
    """Run a child, and return what it tells and its largest anonymous memory."""
    with _group(cap) as procs:
        limits = f"ulimit -n {files}; " if files else ""
        limits += f"echo $$ > {procs}; " if procs else ""
        told = Path(tempfile.mkstemp(suffix=".json")[1])
        told.write_text(json.dumps(case))
        script = f'{limits}exec "$0" -m benchmarks.scale --child {name} "@{told}"'
        command = ["sh", "-c", script, sys.executable]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as child:
            anon = watch(child).anon
            output = child.stdout.read() if child.stdout else ""
        told.unlink()
    if child.returncode:
        raise SystemExit(f"{name} ended with {child.returncode}")
    return dict(json.loads(output.splitlines()[-1])) | {"anon": anon}


@contextmanager
def _group(cap: int) -> Iterator[str]:
    """Make a control group (version 1), and yield the file that a process enters it by."""
    if not cap:
        yield ""
        return
    group = GROUPS / f"fedarchive-scale-{os.getpid()}"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(cap))
    try:
        yield str(group / "cgroup.procs")
    finally:
        time.sleep(0.5)
        group.rmdir()


CASES = {case.__name__: case for case in (small, s3, large, peer, table, history)}
CASES["s3convert"] = partial(objects.s3convert, run=_run)
CHILDREN = {
    "mean": _child(child_mean),
    "convert": _child(child_convert),
    "safetensors": _child(child_safetensors),
    **{name: _child(call) for name, call in objects.CHILDREN.items()},
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("case", help=", ".join(CASES))
    parser.add_argument("--clients", type=int, help="archives, where not as many as the goal says")
    parser.add_argument("--rounds", type=int, help="rounds, where not as many as the goal says")
    parser.add_argument("--nbytes", type=int, help="bytes of each")
    parser.add_argument("--runs", type=int, default=3, help="runs of which the fastest counts; default: 3")
    parser.add_argument("--cap", type=int, default=0, help="s3, s3convert: bytes of a control group; root")
    parser.add_argument("--folder", help="where the archives are made")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
