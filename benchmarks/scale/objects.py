"""Conversions from object to object, beside boto3 and s3fs that copy the same bytes through a local file."""

from __future__ import annotations

import argparse
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import archive

__all__ = ["CHILDREN", "s3convert"]

PART_BYTES = 16 << 20
Run = Callable[..., dict[str, Any]]


def s3convert(folder: Path, options: argparse.Namespace, *, run: Run) -> list[str]:
    """1.1 GB from an archive to safetensors and back, verified; interleaved, the fastest of each."""
    from tests.servers.s3 import BUCKET, s3_server

    nbytes, prefix = options.nbytes or 1_100_000_000, uuid.uuid4().hex
    best: dict[str, dict[str, float]] = {}
    with s3_server() as server:
        url = f"s3://{BUCKET}/{prefix}"
        archive.save(_layers(nbytes), f"{url}/first.h5", storage_options=server.options())
        named: dict[str, Any] = {"server": server.options(), "folder": url, "local": str(folder / "raw")}
        named["work"] = "first.h5", "a.safetensors"
        run("convert_object", named, cap=options.cap)
        for _ in range(options.runs):
            for name, work in (("first.h5", "b.safetensors"), ("a.safetensors", "b.h5")):
                named["work"] = name, work
                _keep(best, f"{name} to {work}", run("convert_object", named, cap=options.cap))
            named["work"] = "first.h5", "raw"
            for peer in ("copy_boto", "copy_s3fs"):
                _keep(best, peer, run(peer, named))
        for key in server.keys(prefix):
            server.client.delete_object(Bucket=BUCKET, Key=key)
    missed = []
    peers = {peer: best.pop(peer) for peer in ("copy_boto", "copy_s3fs")}
    for peer, raw in peers.items():
        parts = ", ".join(f"{name} {raw[name]:.1f}" for name in ("get", "put", "back"))
        print(f"s3convert: {peer}: {parts}, {raw['cpu']:.1f} s of processor")
    for what, found in best.items():
        shares = []
        for peer, raw in peers.items():
            both = raw["get"] + raw["put"]
            shares.append(found["convert"] / (both + raw["back"]))
            with_back = f"{shares[-1]:.2f} with a read-back"
            print(f"s3convert: {what}: {found['convert'] / both:.2f} of the time of {peer}, {with_back}")
        seconds = f"{found['convert']:.1f} s, {found['cpu']:.1f} s of processor"
        print(f"s3convert: {what}: {seconds}, {found['anon'] / 1e6:.0f} MB of anonymous memory")
        if max(shares) > 1.3:
            missed.append(f"{max(shares):.2f} of the time of a copy that is read back, at most 1.3")
    return missed


def _keep(best: dict[str, dict[str, float]], name: str, found: dict[str, Any]) -> None:
    """Keep the least of each figure, and the most memory."""
    kept = best.setdefault(name, found)
    best[name] = {key: (max if key == "anon" else min)(kept[key], found[key]) for key in kept}


def _layers(nbytes: int) -> Iterator[tuple[str, Any]]:
    base = np.random.default_rng(7).standard_normal(4 << 20, "f4")
    for layer in range(max(1, nbytes // base.nbytes)):
        yield f"layer{layer:03d}.weight", base + np.float32(layer)


def _convert(case: dict[str, Any]) -> dict[str, Any]:
    from archive.tools import convert

    source, target = (f"{case['folder']}/{name}" for name in case["work"])
    archive.open(f"{case['folder']}/first.h5", storage_options=case["server"]).close()  # imports s3fs
    report = convert(source, target, storage_options=case["server"], out_options=case["server"])
    if not report.verified:
        raise SystemExit("it was not read back")
    return {"convert": report.seconds}


def _copied(
    get: Callable[[str, str], object], put: Callable[[str, str], object], case: dict[str, Any]
) -> dict[str, Any]:
    """Time a copy through a local file, and reading it back."""
    source, target = (f"{case['folder']}/{name}".removeprefix("s3://") for name in case["work"])
    times = [time.perf_counter()]
    for call, given in (
        (get, (source, case["local"])),
        (put, (case["local"], target)),
        (get, (target, case["local"])),
    ):
        call(*given)
        times.append(time.perf_counter())
    Path(case["local"]).unlink()
    return dict(zip(("get", "put", "back"), np.diff(times).tolist(), strict=True))


def _copy_boto(case: dict[str, Any]) -> dict[str, Any]:
    import boto3
    from boto3.s3.transfer import TransferConfig

    given = case["server"]
    client = boto3.client(
        "s3",
        endpoint_url=given["endpoint_url"],
        aws_access_key_id=given["key"],
        aws_secret_access_key=given["secret"],
        **given["client_kwargs"],
    )
    parts = TransferConfig(max_concurrency=8, multipart_chunksize=PART_BYTES, multipart_threshold=PART_BYTES)
    return _copied(
        lambda name, path: client.download_file(*name.split("/", 1), path, Config=parts),
        lambda path, name: client.upload_file(path, *name.split("/", 1), Config=parts),
        case,
    )


def _copy_s3fs(case: dict[str, Any]) -> dict[str, Any]:
    import s3fs

    files = s3fs.S3FileSystem(**case["server"])
    return _copied(files.get_file, files.put_file, case)


CHILDREN = {"convert_object": _convert, "copy_boto": _copy_boto, "copy_s3fs": _copy_s3fs}
