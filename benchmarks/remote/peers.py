"""How each library saves a model to S3 and reads it; each returns what it read, so that it can be checked."""

from __future__ import annotations

import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = ["OPERATIONS", "PEERS", "Peer", "Where"]

OPERATIONS = ("open", "one", "slice", "all")


@dataclass(frozen=True)
class Where:
    """An endpoint and a bucket."""

    endpoint: str
    bucket: str
    key: str
    secret: str
    region: str = "us-east-1"

    @property
    def options(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "secret": self.secret,
            "endpoint_url": self.endpoint,
            "client_kwargs": {"region_name": self.region},
        }


class Peer:
    """One library; ``open`` lists names and shapes, the others open first."""

    title: ClassVar[str] = ""
    suffix: ClassVar[str] = ""
    without: ClassVar[dict[str, str]] = {}
    """Operations that it has no way to do."""

    def __init__(self, where: Where) -> None:
        self.where = where

    def save(self, arrays: dict[str, Any], name: str) -> None:
        raise NotImplementedError

    def open(self, name: str) -> Any:
        raise NotImplementedError

    def one(self, name: str, array: str) -> Any:
        raise NotImplementedError

    def slice(self, name: str, array: str, rows: slice) -> Any:
        raise NotImplementedError

    def all(self, name: str) -> Any:
        raise NotImplementedError

    def at(self, name: str) -> str:
        return f"s3://{self.where.bucket}/{name}{self.suffix}"


class Ours(Peer):
    title = "fedarchive (s3fs)"
    suffix = ".ours.h5"

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        import archive

        self.archive = archive

    def save(self, arrays: dict[str, Any], name: str) -> None:
        self.archive.save(arrays, self.at(name), storage_options=self.where.options)

    def open(self, name: str) -> Any:
        with self.archive.open(self.at(name), storage_options=self.where.options) as handle:
            return {key: (handle[key].shape, handle[key].dtype) for _, key in handle}

    def one(self, name: str, array: str) -> Any:
        with self.archive.open(self.at(name), storage_options=self.where.options) as handle:
            return handle[array].numpy()

    def slice(self, name: str, array: str, rows: slice) -> Any:
        import numpy as np

        with self.archive.open(self.at(name), storage_options=self.where.options) as handle:
            return np.asarray(handle[array][rows])

    def all(self, name: str) -> Any:
        loaded = self.archive.load(self.at(name), storage_options=self.where.options).array_records["model"]
        return {key: loaded[key].numpy() for key in loaded}


class H5py(Peer):
    title = "h5py over s3fs"
    suffix = ".h5py.h5"

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        import h5py
        import s3fs

        self.h5py = h5py
        self.filesystem = s3fs.S3FileSystem(**where.options)

    def save(self, arrays: dict[str, Any], name: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            # HDF5 goes back and forth as it writes, which S3 has no way to do
            with self.h5py.File(f"{folder}/model", "w") as file:
                for key, values in arrays.items():
                    file[key] = values
            self.filesystem.put(f"{folder}/model", self.at(name))

    def _file(self, name: str) -> Any:
        self.filesystem.invalidate_cache()
        return self.h5py.File(self.filesystem.open(self.at(name), "rb"), "r")

    def open(self, name: str) -> Any:
        with self._file(name) as file:
            return {key: (file[key].shape, file[key].dtype) for key in file}

    def one(self, name: str, array: str) -> Any:
        with self._file(name) as file:
            return file[array][...]

    def slice(self, name: str, array: str, rows: slice) -> Any:
        with self._file(name) as file:
            return file[array][rows]

    def all(self, name: str) -> Any:
        with self._file(name) as file:
            return {key: file[key][...] for key in file}


class Zarr(Peer):
    """Version 3, no compression, consolidated metadata, its own choice of chunks, 8 threads."""

    title = "zarr 3, FsspecStore"
    suffix = ".zarr"

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        import zarr

        self.zarr = zarr

    def _store(self, name: str, read_only: bool = True) -> Any:
        return self.zarr.storage.FsspecStore.from_url(
            self.at(name), storage_options=self.where.options, read_only=read_only
        )

    def save(self, arrays: dict[str, Any], name: str) -> None:
        store = self._store(name, False)
        group = self.zarr.create_group(store, overwrite=True)

        def write(item: tuple[str, Any]) -> None:
            group.create_array(item[0], data=item[1], compressors=None)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, arrays.items()))
        self.zarr.consolidate_metadata(store)

    def _group(self, name: str) -> Any:
        return self.zarr.open_consolidated(self._store(name), mode="r")

    def open(self, name: str) -> Any:
        return {key: (array.shape, array.dtype) for key, array in self._group(name).arrays()}

    def one(self, name: str, array: str) -> Any:
        return self._group(name)[array][...]

    def slice(self, name: str, array: str, rows: slice) -> Any:
        return self._group(name)[array][rows]

    def all(self, name: str) -> Any:
        found = dict(self._group(name).arrays())
        with ThreadPoolExecutor(8) as pool:
            return dict(zip(found, pool.map(lambda array: array[...], found.values()), strict=True))


class ZarrObstore(Zarr):
    title = "zarr 3, ObjectStore (obstore)"

    def _store(self, name: str, read_only: bool = True) -> Any:
        import obstore.store

        where = self.where
        bucket = obstore.store.S3Store(
            where.bucket,
            prefix=f"{name}{self.suffix}",
            endpoint=where.endpoint,
            access_key_id=where.key,
            secret_access_key=where.secret,
            region=where.region,
            client_options={"allow_http": True},
        )
        return self.zarr.storage.ObjectStore(bucket, read_only=read_only)


class TensorStore(Peer):
    """zarr3 arrays in OCDBT, the database that orbax uses."""

    title = "tensorstore OCDBT"
    suffix = ".ocdbt/"

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        os.environ.update(AWS_ACCESS_KEY_ID=where.key, AWS_SECRET_ACCESS_KEY=where.secret)
        import tensorstore

        self.ts = tensorstore

    def _database(self, name: str) -> dict[str, Any]:
        base = {
            "driver": "s3",
            "bucket": self.where.bucket,
            "path": f"{name}{self.suffix}",
            "endpoint": self.where.endpoint,
            "aws_region": self.where.region,
        }
        return {"driver": "ocdbt", "base": base}

    def _open(self, name: str, array: str, context: Any, **options: Any) -> Any:
        spec = {"driver": "zarr3", "kvstore": {**self._database(name), "path": f"{array}/"}}
        return self.ts.open(spec, context=context, **options)

    def save(self, arrays: dict[str, Any], name: str) -> None:
        # locally, then copied: what is compared is reading
        import s3fs

        with tempfile.TemporaryDirectory() as folder:
            database = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}}
            context = self.ts.Context()
            for key, values in arrays.items():
                spec = {"driver": "zarr3", "kvstore": {**database, "path": f"{key}/"}}
                array = self.ts.open(
                    spec, context=context, create=True, dtype=str(values.dtype), shape=values.shape
                ).result()
                array.write(values).result()
            s3fs.S3FileSystem(**self.where.options).put(f"{folder}/", self.at(name), recursive=True)

    def _names(self, name: str, context: Any) -> list[str]:
        database = self.ts.KvStore.open(self._database(name), context=context).result()
        keys = [key.decode() for key in database.list().result()]
        return [key.removesuffix("/zarr.json") for key in keys if key.endswith("/zarr.json")]

    def _all(self, name: str) -> dict[str, Any]:
        context = self.ts.Context()
        names = self._names(name, context)
        futures = [self._open(name, key, context, read=True) for key in names]
        return {key: future.result() for key, future in zip(names, futures, strict=True)}

    def open(self, name: str) -> Any:
        return {key: (array.shape, array.dtype) for key, array in self._all(name).items()}

    def one(self, name: str, array: str) -> Any:
        return self._open(name, array, self.ts.Context(), read=True).result().read().result()

    def slice(self, name: str, array: str, rows: slice) -> Any:
        return self._open(name, array, self.ts.Context(), read=True).result()[rows].read().result()

    def all(self, name: str) -> Any:
        reads = {key: array.read() for key, array in self._all(name).items()}
        return {key: read.result() for key, read in reads.items()}


class Dcp(Peer):
    title = "torch DCP, FsspecReader"
    suffix = ".dcp"

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        import torch
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint import _fsspec_filesystem as fsspec_filesystem

        self.torch, self.dcp, self.storage = torch, dcp, fsspec_filesystem

    def _reader(self, name: str) -> Any:
        return self.storage.FsspecReader(self.at(name), **self.where.options)

    def save(self, arrays: dict[str, Any], name: str) -> None:
        state = {key: self.torch.from_numpy(values) for key, values in arrays.items()}
        writer = self.storage.FsspecWriter(self.at(name), sync_files=False, **self.where.options)
        self.dcp.save(state, storage_writer=writer, no_dist=True)

    def open(self, name: str) -> Any:
        metadata = self._reader(name).read_metadata().state_dict_metadata
        return {key: (tuple(found.size), found.properties.dtype) for key, found in metadata.items()}

    def _load(self, name: str, names: Any) -> dict[str, Any]:
        reader = self._reader(name)
        metadata = reader.read_metadata().state_dict_metadata
        state = {key: self.torch.empty(metadata[key].size) for key in names or metadata}
        self.dcp.load(state, storage_reader=reader, no_dist=True)
        return {key: tensor.numpy() for key, tensor in state.items()}

    def one(self, name: str, array: str) -> Any:
        return self._load(name, [array])[array]

    def slice(self, name: str, array: str, rows: slice) -> Any:
        return self._load(name, [array])[array][rows]

    def all(self, name: str) -> Any:
        return self._load(name, None)


class RunAI(Peer):
    """Streams whole files of safetensors; there is no way to ask for less."""

    title = "runai-model-streamer"
    suffix = ".safetensors"
    without: ClassVar = dict.fromkeys(("open", "one", "slice"), "streams whole files only")

    def __init__(self, where: Where) -> None:
        super().__init__(where)
        os.environ.update(
            AWS_ACCESS_KEY_ID=where.key,
            AWS_SECRET_ACCESS_KEY=where.secret,
            AWS_ENDPOINT_URL=where.endpoint,
            AWS_REGION=where.region,
            AWS_DEFAULT_REGION=where.region,
            AWS_EC2_METADATA_DISABLED="true",
            RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING="0",
        )
        import runai_model_streamer

        self.streamer = runai_model_streamer.SafetensorsStreamer

    def save(self, arrays: dict[str, Any], name: str) -> None:
        import s3fs

        header: dict[str, Any] = {}
        end = 0
        for key, values in arrays.items():
            header[key] = {
                "dtype": "F32",
                "shape": values.shape,
                "data_offsets": [end, end + values.nbytes],
            }
            end += values.nbytes
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with s3fs.S3FileSystem(**self.where.options).open(self.at(name), "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for values in arrays.values():
                file.write(values.tobytes())

    def all(self, name: str) -> Any:
        with self.streamer() as streamer:
            streamer.stream_file(self.at(name))
            # a tensor is a view of a buffer that is used again
            return {key: tensor.clone().numpy() for key, tensor in streamer.get_tensors()}


PEERS: dict[str, type[Peer]] = {
    "ours": Ours,
    "h5py": H5py,
    "zarr": Zarr,
    "zarr-obstore": ZarrObstore,
    "tensorstore": TensorStore,
    "dcp": Dcp,
    "runai": RunAI,
}
