"""A store against a plain model, through saves, crashes, removals, other processes and foreign edits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import fsspec
import numpy as np
import pytest

import archive
from archive import tuning
from archive.checkpoints.roundfile import DAMAGE
from archive.errors import ExistsError, MissingError, ReplacedError
from archive.tools.spelling import spell
from tests.children import ROOT
from tests.faults.conftest import environment
from tests.servers.s3 import BUCKET, S3Server

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

NUMBERS = st.integers(1, 5)
CLIENTS = st.sampled_from(["a", "B", "../c"])
LOSSES = st.sampled_from([None, 0.0, 0.5, 0.5, 1.0, float("nan")])
KEPT = 2
NAMES = ["notes.txt", "00000005/thesis.h5", "{:08d}/thesis.txt", "{:08d}.h5.bak", ".{:08d}.h5.0.tmp"]
"""Of files that strangers put there; `thesis.h5` is in the way of rounds that list the files of clients."""


class CrashError(Exception):
    """Ends a save in the middle."""


def arrays(value: int) -> dict[str, Any]:
    return {"w": np.full(64, value, "<f8")}


@dataclass(eq=False)
class File:
    """A file of a client as it should be."""

    client: str
    value: int
    damaged: bool = False
    path: str = ""


@dataclass(eq=False)
class Round:
    """A round as it should be."""

    value: int
    loss: float | None
    clients: dict[str, File] = field(default_factory=dict)
    damaged: bool = False

    @property
    def whole(self) -> bool:
        return not self.damaged and not any(file.damaged for file in self.clients.values())


class Place:
    """Where a store is, and how a stranger gets at its files."""

    exact_times = True
    """Whether the later of two files of a client is known to be the later."""

    def __init__(self, url: str, options: dict[str, Any] | None = None) -> None:
        self.url, self.options = url, options

    def open(self) -> archive.CheckpointStore:
        return archive.CheckpointStore(self.url, keep_last=KEPT, best_by="loss", storage_options=self.options)

    def files(self) -> dict[str, bytes]:
        filesystem, root = fsspec.core.url_to_fs(self.url, **(self.options or {}))
        filesystem.invalidate_cache()
        return {
            path[len(root) + 1 :]: filesystem.cat_file(path)
            for path, info in filesystem.find(root, detail=True).items()
            if info["type"] == "file"
        }

    def write(self, path: str, content: bytes) -> None:
        filesystem, root = fsspec.core.url_to_fs(self.url, **(self.options or {}))
        filesystem.pipe_file(f"{root}/{path}", content)

    def crash(self, store: archive.CheckpointStore, number: int, client: str | None) -> None:
        def dying() -> Iterator[tuple[str, Any]]:
            yield "w", np.zeros(64)
            raise CrashError

        with pytest.raises(CrashError):
            store.save(dying(), number, client=client)

    def close(self) -> None:
        filesystem, root = fsspec.core.url_to_fs(self.url, **(self.options or {}))
        if filesystem.exists(root):
            filesystem.rm(root, recursive=True)


class Folder(Place):
    """A local folder; who crashes there is a process that is killed."""

    def __init__(self, crasher: subprocess.Popen[str]) -> None:
        super().__init__(tempfile.mkdtemp())
        self._crasher = crasher

    def files(self) -> dict[str, bytes]:
        root = Path(self.url)
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def write(self, path: str, content: bytes) -> None:
        place = Path(self.url, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)

    def crash(self, store: archive.CheckpointStore, number: int, client: str | None) -> None:
        asking, answering = self._crasher.stdin, self._crasher.stdout
        assert asking is not None
        assert answering is not None
        asking.write(json.dumps({"url": self.url, "round": number, "client": client}) + "\n")
        asking.flush()
        assert answering.readline() == "9\n"

    def close(self) -> None:
        shutil.rmtree(self.url)


class Machine(RuleBasedStateMachine):
    """Rules on a store and its model.

    ``own`` are files of clients that our store saved. Where another process published and removed the round,
    or removed them as garbage, the next save says so, until they are saved again or the store is opened anew.
    """

    make_place: Callable[[], Place]

    def __init__(self) -> None:
        super().__init__()
        self.place = type(self).make_place()
        self.store = self.place.open()
        self.rounds: dict[int, Round] = {}
        self.files: dict[int, list[File]] = {}
        self.own: dict[int, dict[str, File]] = {}
        self.strangers: dict[str, bytes] = {}
        self.value = 0

    def teardown(self) -> None:
        self.place.close()

    # Saving

    @rule(number=NUMBERS, loss=LOSSES, other=st.booleans())
    def save(self, number: int, loss: float | None, other: bool) -> None:
        """Save a round, with our store or that of another process, which knows of no client's file."""
        store, value = self.place.open() if other else self.store, self.next_value()
        own = {} if other else self.own.get(number, {})
        listed = self.files.get(number, [])
        strange = f"rounds/{number:08d}/thesis.h5" in self.strangers
        expected: type[Exception] | tuple[type[Exception], ...] | None = None
        if number in self.rounds:
            expected = ExistsError
        elif any(file not in listed for file in own.values()):
            expected = ReplacedError
        elif not own and strange:
            expected = DAMAGE
        metrics = None if loss is None else {"loss": loss}
        if expected is not None:
            with pytest.raises(expected):
                store.save(arrays(value), number, metrics=metrics)
            if expected is ExistsError and not other:
                self.own.pop(number, None)
            return
        store.save(arrays(value), number, metrics=metrics)
        clients = dict(own) if own else {file.client: file for file in listed}
        # a round older than those that are kept is pruned as soon as it is saved; the model says whether
        if not own and not self.place.exact_times and number in store.rounds():
            for client in clients:
                with store.open(number, client=client) as found:
                    value_there = int(found["w"].numpy()[0])
                clients[client] = next(file for file in listed if file.value == value_there)
        self.rounds[number] = Round(value, loss, clients)
        if not other:
            self.own.pop(number, None)
        self.prune_model()

    @rule(number=NUMBERS, client=CLIENTS, other=st.booleans())
    def save_client(self, number: int, client: str, other: bool) -> None:
        store, value = self.place.open() if other else self.store, self.next_value()
        if number in self.rounds:
            with pytest.raises(ExistsError):
                store.save(arrays(value), number, client=client)
            if not other:
                self.own.pop(number, None)
            return
        before = set(self.place.files())
        store.save(arrays(value), number, client=client)
        (path,) = set(self.place.files()) - before
        assert path.startswith(f"rounds/{number:08d}/{spell(client)}")
        file = File(client, value, path=path)
        self.files.setdefault(number, []).append(file)
        if not other:
            self.own.setdefault(number, {})[client] = file

    @rule(number=NUMBERS, clients=st.lists(CLIENTS, max_size=4), loss=LOSSES, other=st.booleans())
    def save_all(self, number: int, clients: list[str], loss: float | None, other: bool) -> None:
        """Save clients, some of them again, and their round."""
        for client in clients:
            self.save_client(number, client, other)
        self.save(number, loss, other)

    @rule(number=NUMBERS, client=st.none() | CLIENTS)
    def crash(self, number: int, client: str | None) -> None:
        """A save ends in the middle; nobody sees anything of it."""
        if number in self.rounds:
            return
        strange = f"rounds/{number:08d}/thesis.h5" in self.strangers
        own = self.own.get(number, {})
        gone = any(file not in self.files.get(number, []) for file in own.values())
        if client is None and (strange or gone):
            return  # it would not begin
        self.place.crash(self.store, number, client)

    @rule()
    def reopen(self) -> None:
        self.store = self.place.open()
        self.own = {}

    # Removing

    @rule(number=NUMBERS, other=st.booleans())
    def remove(self, number: int, other: bool) -> None:
        store = self.place.open() if other else self.store
        if number not in self.rounds:
            with pytest.raises(MissingError):
                store.remove(number)
            return
        store.remove(number)
        self.remove_model(number)

    @rule()
    def prune(self) -> None:
        before = set(self.rounds)
        self.prune_model()
        assert self.store.prune() == sorted(before - set(self.rounds))

    @rule(other=st.booleans())
    def gc(self, other: bool) -> None:
        (self.place.open() if other else self.store).gc(0)
        for number, files in self.files.items():
            if number in self.rounds:
                kept = list(self.rounds[number].clients.values())
            else:
                kept = [] if other else list(self.own.get(number, {}).values())
            self.files[number] = [file for file in files if file in kept]
        expected = {f"rounds/{number:08d}.h5" for number in self.rounds} | set(self.strangers)
        expected |= {file.path for files in self.files.values() for file in files}
        assert set(self.place.files()) - {"catalogue.h5"} == expected

    # Foreign edits

    @rule(number=NUMBERS, name=st.sampled_from(NAMES))
    def put_a_file(self, number: int, name: str) -> None:
        path = f"rounds/{name.format(number)}"
        if path not in self.place.files() or path in self.strangers:
            self.strangers[path] = f"of a stranger {self.next_value()}".encode()
            self.place.write(path, self.strangers[path])

    @precondition(lambda self: self.rounds)
    @rule(data=st.data())
    def flip_a_byte(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.rounds)))
        found = self.rounds[number]
        file = data.draw(st.sampled_from([None, *found.clients.values()]))
        path, value = (f"rounds/{number:08d}.h5", found.value) if file is None else (file.path, file.value)
        target = found if file is None else file
        if target.damaged:
            return
        content = bytearray(self.place.files()[path])
        content[content.index(arrays(value)["w"].tobytes())] ^= 1
        self.place.write(path, bytes(content))
        target.damaged = True

    # What holds at any time

    @invariant()
    def every_whole_round_is_there(self) -> None:
        store = self.place.open()
        assert store.rounds() == self.store.rounds() == sorted(self.rounds)
        history = store.history(clients=True)
        expected = [
            (number, client)
            for number, found in sorted(self.rounds.items())
            for client in ["", *sorted(found.clients)]
        ]
        assert list(zip(history["round"].tolist(), history["client"].tolist(), strict=True)) == expected
        for number, found in self.rounds.items():
            assert store.clients(number) == sorted(found.clients)
            assert bool(store.verify(number)) is found.whole
            if not found.damaged:
                self.check(lambda number=number: store.open(number), found.value)
            for client, file in found.clients.items():
                if not file.damaged:
                    self.check(lambda n=number, c=client: store.open(n, client=c), file.value)

    @invariant()
    def latest_and_best_are_right(self) -> None:
        named: dict[Literal["latest", "best"], int | None]
        named = {"latest": max(self.rounds, default=None), "best": self.best()}
        for round_, number in named.items():
            if number is None:
                with pytest.raises(MissingError):
                    self.store.open(round_)
            elif self.rounds[number].damaged:
                with pytest.raises(DAMAGE):
                    self.store.open(round_)
            else:
                self.check(lambda round_=round_: self.store.open(round_), self.rounds[number].value)

    @invariant()
    def files_of_strangers_stay(self) -> None:
        files = self.place.files()
        assert {path: files.get(path) for path in self.strangers} == self.strangers

    # The model

    def next_value(self) -> int:
        self.value += 1
        return self.value

    def best(self) -> int | None:
        losses = {n: found.loss for n, found in self.rounds.items() if found.loss is not None}
        numbers = [number for number, loss in losses.items() if loss == loss]
        return min(numbers, key=lambda number: (losses[number], -number), default=None)

    def prune_model(self) -> None:
        going = set(sorted(self.rounds)[:-KEPT]) - {self.best()}
        whole = [number for number, found in self.rounds.items() if found.whole]
        for number in going if whole else ():
            if number != max(whole):
                self.remove_model(number)

    def remove_model(self, number: int) -> None:
        del self.rounds[number]
        self.files.pop(number, None)

    def check(self, opened: Callable[[], archive.Archive], value: int) -> None:
        with opened() as found:
            assert found["w"].numpy().tolist() == [value] * 64


@pytest.fixture(scope="module")
def crasher() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.checkpoints.crasher"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


class Bucket(Place):
    exact_times = False  # S3 tells seconds


def run(make_place: Callable[[], Place], examples: int, steps: int) -> None:
    machine = type("StoreMachine", (Machine,), {"make_place": staticmethod(make_place)})
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    run_state_machine_as_test(machine, settings=how)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(("examples", "steps"), [(5, 8), pytest.param(60, 30, marks=SLOW)])
@pytest.mark.usefixtures("crasher")  # it starts meanwhile
def test_memory(examples: int, steps: int) -> None:
    run(lambda: Place(f"memory://{uuid.uuid4().hex}"), examples, steps)


@pytest.mark.needs("os.fork")
@pytest.mark.parametrize(("examples", "steps"), [(2, 8), pytest.param(25, 25, marks=SLOW)])
def test_a_folder(
    crasher: subprocess.Popen[str], examples: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its catalogue knows each round at once."""
    monkeypatch.setattr(tuning, "SETTLED_SECONDS", 0.0)
    run(lambda: Folder(crasher), examples, steps)


@SLOW
@pytest.mark.timeout(1200)
def test_a_bucket(server: S3Server) -> None:
    options = server.options()
    run(lambda: Bucket(f"s3://{BUCKET}/{uuid.uuid4().hex}/run", options), 6, 15)
