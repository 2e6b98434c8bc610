"""The content of a round file: all that the next round starts from, as records and back."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from archive.checkpoints.lineage import Line, parse_chain
from archive.checkpoints.paths import RESUME
from archive.engine.read.handle import Archive
from archive.errors import ArchiveError, VersionError
from archive.interop.flower.strategystate import SchemaError
from archive.interop.statearrays import JSON
from archive.interop.statetexts import from_text, to_text
from archive.records import Array, ArrayRecord, ConfigRecord, RecordDict
from archive.records.payload import BytesPayload

__all__ = ["Snapshot", "describe", "from_archive", "kept", "require_schema", "to_records"]

VERSION = 2
"""Version of the records below; a reader refuses greater versions."""

_DOCUMENTS = ("schema", "state", "started", "configs", "random", "history", "ancestors", "nodes", "identity")


@dataclass(slots=True)
class Snapshot:
    """The end of one round."""

    round: int
    """Its number, from 1; 0 before any training."""
    strategy: str
    """Class of the strategy, with its module."""
    models: Mapping[str, ArrayRecord]
    """The global arrays: the record ``model``, and others where a packer finds more in them."""
    arrays: dict[str, Array] = field(default_factory=dict)
    """Arrays that the documents name: the strategy's state."""
    random_arrays: dict[str, Array] = field(default_factory=dict)
    """Arrays of the states of random number generators."""
    schema: JSON = None
    """`describe` of the arrays that the run started with; None if they came from a client."""
    state: JSON = None
    """`capture` of the strategy at the end of the round."""
    started: JSON = None
    """`capture` of the strategy before the first round, to tell settings from state that the run changed."""
    configs: JSON = None
    """Configs of train and evaluate messages: as given, and at the end of the round."""
    random: JSON = None
    """States of the global random number generators."""
    history: dict[str, dict[str, JSON]] = field(default_factory=dict)
    """Metrics of every round by kind and round."""
    token: str = ""
    """Token of the attempt that saved the round."""
    ancestors: JSON = ()
    """Token of each attempt that this one goes on from, and the last round taken from it, oldest first."""
    nodes: JSON = ()
    """Names of the nodes that had saved states."""
    identity: JSON = field(default_factory=dict)
    """Of the app: ``name``, ``publisher`` and ``federation``, as far as Flower gives them."""
    digest: str = ""
    """Digest of the round file; empty until the round is saved."""

    @property
    def line(self) -> Line:
        """The attempt that saved the round, and those before it."""
        return Line(self.token, tuple((token, last) for token, last in self.ancestors))


def to_records(snapshot: Snapshot) -> RecordDict:
    """Return a snapshot as records to be saved.

    Examples
    --------
    >>> records = to_records(Snapshot(3, "FedAvg", {"model": ArrayRecord()}))
    >>> list(records), records["fedarchive.resume"]["round"]
    (['model', 'strategy', 'random', 'fedarchive.resume'], 3)
    """
    documents = {name: to_text(getattr(snapshot, name), f"{RESUME}/{name}") for name in _DOCUMENTS}
    resume: dict[str, Any] = {
        "version": VERSION,
        "round": snapshot.round,
        "strategy": snapshot.strategy,
        "token": snapshot.token,
        "models": list(snapshot.models),
        **documents,
    }
    return RecordDict(
        {
            **snapshot.models,
            "strategy": ArrayRecord.from_checked(snapshot.arrays),
            "random": ArrayRecord.from_checked(snapshot.random_arrays),
            RESUME: ConfigRecord(resume),
        }
    )


def from_archive(handle: Archive) -> Snapshot:
    """Return the snapshot of a round file; its arrays stay in a file that is mapped.

    Raises
    ------
    SchemaError, VersionError
        The file is whole, but is not a round of a resumable run, or was saved by a newer fedarchive.
    """
    records, path = handle.records, handle.info.path
    try:
        resume: Mapping[str, Any] = records[RESUME]
        if resume["version"] > VERSION:
            raise VersionError(
                f"saved by a newer fedarchive (version {resume['version']})", path=path, remedy="upgrade"
            )
        documents = {name: from_text(resume[name], path, f"{RESUME}/{name}") for name in _DOCUMENTS}
        parse_chain([*documents["ancestors"], (resume["token"], resume["round"])])
        _require_documents(documents)
        models = {name: kept(handle, records[name]) for name in resume["models"]}
        if not models:
            raise ValueError("it has no model")
        strategy, numbers = (kept(handle, records[name]) for name in ("strategy", "random"))
        return Snapshot(
            resume["round"],
            resume["strategy"],
            models,
            dict(strategy),
            dict(numbers),
            token=resume["token"],
            digest=handle._reader.identity.hex(),
            **documents,
        )
    except ArchiveError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise SchemaError(
            f"not a round of a resumable strategy: {error}",
            path=path,
            remedy="move it away, or give another url or experiment",
        ) from error


def _require_documents(documents: Mapping[str, JSON]) -> None:
    """Raise TypeError unless the documents are what a server saves; `decode` validates the trees inside."""
    configs, schema, names = documents["configs"] or {}, documents["schema"] or [], documents["nodes"]
    tables = [documents["history"], *documents["history"].values(), documents["identity"], configs]
    tables += [part for config in configs.values() for part in (config["given"], config["last"])]
    if not all(isinstance(table, dict) for table in tables):
        raise TypeError("a list or value instead of an object")
    if not all(isinstance(text, str) for text in (*names, *documents["identity"].values())):
        raise TypeError("a name that is no text")
    if not isinstance(schema, list):
        raise TypeError("a schema that is no list")


def kept(handle: Archive, record: Any) -> ArrayRecord:
    """Return a record that outlives its file: a mapped record does, a remote one is fetched now."""
    if not isinstance(record, ArrayRecord):
        raise TypeError(f"a {type(record).__name__} instead of an ArrayRecord")
    if handle.info.access == "mmap":
        return record
    fetched = {
        key: Array.from_payload(array.dtype, array.shape, array.stype, BytesPayload(array.data, array.dtype))
        for key, array in record.items()
    }
    return ArrayRecord.from_checked(fetched)


def describe(record: ArrayRecord) -> JSON:
    """Return name, dtype and shape of every array, in order."""
    return [[key, array.dtype, list(array.shape)] for key, array in record.items()]


def require_schema(before: JSON, now: JSON) -> None:
    """Raise SchemaError unless a script starts with the arrays that the run started with.

    None stands for arrays that came from a client.

    Examples
    --------
    >>> require_schema([["w", "float32", [2]]], [["w", "float32", [3]]])
    Traceback (most recent call last):
    archive.interop.flower.strategystate.SchemaError: 'model': the model is not ...
    """
    if before is None or now is None or before == now:
        return
    pairs = itertools.zip_longest(before, now, fillvalue="nothing")
    then, given = next((then, given) for then, given in pairs if then != given)
    raise SchemaError(
        f"the model is not the model of the saved run, which has {then} where this one has {given}",
        key="model",
        remedy="resume with the same model, or give another url or experiment",
    )
