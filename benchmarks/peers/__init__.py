"""Every library that is measured, by the name it is printed under."""

from __future__ import annotations

import importlib.metadata

from benchmarks.peers.base import Peer
from benchmarks.peers.ceilings import HashSpeed, Memmap, RawRead
from benchmarks.peers.chunked import Icechunk, TensorStoreOcdbt, Zarr
from benchmarks.peers.fedarchive import Again, AsShipped, FedArchive, Unverified
from benchmarks.peers.frameworks import KerasWeights, Orbax
from benchmarks.peers.hdf5 import PlainH5py
from benchmarks.peers.numpy import NumpyZip
from benchmarks.peers.safetensors import SafetensorsNumpy, SafetensorsTorch
from benchmarks.peers.torch import TorchDistributed, TorchMapped, TorchPlain
from benchmarks.peers.ways import WAYS

__all__ = ["PEERS", "Peer", "missing"]

_ALL: tuple[type[Peer], ...] = (
    FedArchive,
    Again,
    Unverified,
    AsShipped,
    SafetensorsNumpy,
    SafetensorsTorch,
    TorchPlain,
    TorchMapped,
    TorchDistributed,
    NumpyZip,
    PlainH5py,
    Zarr,
    Icechunk,
    TensorStoreOcdbt,
    Orbax,
    KerasWeights,
    Memmap,
    RawRead,
    HashSpeed,
    *WAYS,
)
PEERS = {peer.name: peer for peer in _ALL}


def missing(peer: type[Peer]) -> str:
    """Return the distribution that a peer needs and this environment lacks, or nothing."""
    for name in peer.requires:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return name
    return ""
