"""ServerStateCheckpointer: the state of an FL4Health server after every round, as an archive."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import archive.interop.flower.strategyvalues  # noqa: F401 Parameters become values
from archive.checkpoints.lineage import Line, new_token
from archive.interop.fl4health.instructions import ask_for_orders
from archive.interop.fl4health.objectstate import StateMismatchError, plain
from archive.interop.fl4health.snapshots import Snapshots
from archive.interop.fl4health.statefiles import ServerFiles
from archive.interop.flower.orders import MAX_KEPT, Order
from archive.interop.flower.releases import LOGGER
from archive.interop.flower.strategystate import strategy_class
from archive.storage.url import URL

__all__ = ["ServerStateCheckpointer"]

_log = logging.getLogger(LOGGER)

_SCRIPT = ("_client_manager", "checkpoint_and_state_module")
_KINDS = {
    "metrics_distributed_fit": "fit",
    "metrics_distributed": "evaluate",
    "metrics_centralized": "server",
}
_LOSSES = {"losses_distributed": "evaluate_loss", "losses_centralized": "server_loss"}


class ServerStateCheckpointer:
    """Saves all that a server of FL4Health goes on from, in the place of FL4Health's class of that name.

    Saved after every round: the parameters as the clients get them (SCAFFOLD's control variates and the
    clipping bound are among them), the model by the names of its state dict, the strategy (moments, momentum,
    penalty weights, clipping bound), history, reporters, all other attributes of the server, and the random
    numbers of Python, numpy and torch. Nothing is pickled. Every message tells the clients which attempt
    the run is in and what that goes on from, so that each client (`ResumableClient`) is in the same round.

    Parameters
    ----------
    checkpoint_dir : str or path-like
        Folder of the run, local or any URL of fsspec.
    checkpoint_name : str, default "default"
        Experiment: the folder in it of one run that is resumed by itself.
    snapshot_attrs : mapping, optional
        Attributes that need a snapshotter of FL4Health's or yours, with it and their class. All other
        attributes are saved too, without one.
    keep_last : int or None, default 3
        Rounds to keep; None for all.
    exclude : collection of str, default ()
        Attributes of the server that are not saved.
    storage_options : mapping, optional
        Keyword arguments of the remote file system.

    Notes
    -----
    A setting of the strategy that the script changes between two starts is taken from the script, where
    the run itself had not changed it.

    Examples
    --------
    ::

        state = ServerStateCheckpointer("/data/runs", "scaffold")
        module = ScaffoldServerCheckpointAndStateModule(model=net, state_checkpointer=state)
        server = ScaffoldServer(..., checkpoint_and_state_module=module)
    """

    def __init__(
        self,
        checkpoint_dir: URL,
        checkpoint_name: str | None = None,
        snapshot_attrs: Mapping[str, tuple[Any, Any]] | None = None,
        *,
        keep_last: int | None = 3,
        exclude: Collection[str] = (),
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._experiment = checkpoint_name or "default"
        self._files = ServerFiles(checkpoint_dir, self._experiment, keep_last, storage_options)
        self._snapshots = Snapshots(snapshot_attrs, (*exclude, *_SCRIPT))
        self._line = Line(new_token())

    @property
    def snapshot_attrs(self) -> dict[str, tuple[Any, Any]]:
        """Attributes that are saved by a snapshotter."""
        return self._snapshots.snapshot_attrs

    @property
    def checkpoint_path(self) -> str:
        """The folder of the run, absolute and without credentials."""
        return self._files.rounds.shown

    def add_to_snapshot_attr(self, name: str, snapshotter: Any, input_type: Any) -> None:
        """Have an attribute saved by a snapshotter."""
        self.snapshot_attrs[name] = (snapshotter, input_type)

    def delete_from_snapshot_attr(self, name: str) -> None:
        """Have an attribute saved without its snapshotter again."""
        del self.snapshot_attrs[name]

    def checkpoint_exists(self) -> bool:
        """Return whether a round was saved."""
        return bool(self._files.rounds.store.rounds())

    def load_checkpoint(self) -> dict[str, Any]:
        """Return the newest saved state as plain values: ``model``, ``attributes``, ``snapshots``.

        Raises
        ------
        FileNotFoundError
            No round was saved.
        """
        found = self._files.newest()
        if found is None:
            raise FileNotFoundError(f"no round was saved in {self._files.rounds.shown}")
        number, _, state, _ = found
        shown = {part: {name: plain(saved) for name, saved in state[part].items()} for part in _PARTS}
        return {"round": number, "model": state["model"], **shown}

    def save_server_state(self, server: Any, model: Any) -> None:
        """Save the state of a server after the round before ``server.current_round``."""
        number = server.current_round - 1
        state = self._snapshots.take(server, model)
        name = strategy_class(server.strategy)
        self._files.save(number, self._line, name, state, _metrics(server.history, number))

    def maybe_load_server_state(
        self, server: Any, model: Any, attributes: Iterable[str] | None = None
    ) -> Any | None:
        """Bring a server to the newest round that was saved; return what its parameters are pushed from.

        Parameters
        ----------
        server : FlServer
        model : torch.nn.Module
            The architecture; it gets the saved weights.
        attributes : iterable of str, optional
            Only these.

        Returns
        -------
        torch.nn.Module, an object with its ``state_dict``, or None
            None where no round was saved.

        Raises
        ------
        StateMismatchError
            The round was saved by another kind of server, strategy or model.
        LockedError
            Another process is the server of this run.
        """
        self._files.rounds.claim(type(server).__name__)
        self._snapshots.begin(server, model)
        found = self._files.newest()
        self._line = Line(new_token()) if found is None else found[1].follow(found[0])
        ask_for_orders(server.strategy, self._order)
        if found is None:
            _log.info("fedarchive: no round saved yet; rounds go to %s", self._files.rounds.shown)
            return None
        number, _, state, damaged = found
        self._snapshots.restore(server, model, state, attributes)
        self._files.rounds.discard(damaged)
        _log.info("fedarchive: resuming after round %d of %s", number, self._files.rounds.shown)
        if getattr(server.strategy, "adjustment_weights", None):
            _log.warning(
                "fedarchive: FedDG-GA names its weights by connections, which are new after a restart: "
                "they begin anew"
            )
        return _source_of(server, model)

    def _order(self, number: int) -> Order:
        kept = self._files.rounds.kept()
        few = kept if kept is not None and len(kept) <= MAX_KEPT else None
        return Order(self._experiment, self._line, number, few)


_PARTS = ("attributes", "snapshots")


class _Element:
    """An ndarray in the place of a tensor."""

    def __init__(self, elements: Any) -> None:
        self._elements = elements

    def cpu(self) -> _Element:
        """Return the element itself."""
        return self

    def numpy(self) -> Any:
        """Return the ndarray."""
        return self._elements


class _Packed:
    """A packed list in the place of a model: FL4Health takes the parameters of a resumed server from a model.

    A model has no place for control variates, bounds and names.
    """

    def __init__(self, packed: list[Any]) -> None:
        self._packed = packed

    def state_dict(self) -> dict[str, _Element]:
        """Return the arrays by their position."""
        return {str(number): _Element(found) for number, found in enumerate(self._packed)}


def _source_of(server: Any, model: Any) -> Any:
    """Return what the server's exchanger makes exactly the saved parameters of."""
    common: Any = importlib.import_module("flwr.common")
    exchanger = server.checkpoint_and_state_module.parameter_exchanger
    saved = server.parameters
    for source in (model, _Packed(common.parameters_to_ndarrays(saved))):
        try:
            pushed = common.ndarrays_to_parameters(exchanger.push_parameters(source))
        except (AttributeError, LookupError, TypeError):
            continue  # an exchanger that picks layers by their names
        if pushed.tensors == saved.tensors:
            return source
    raise StateMismatchError(
        f"a {type(exchanger).__name__} does not make the saved parameters again",
        key="parameters",
        remedy="give the server's module the exchanger that its clients use",
    )


def _metrics(history: Any, number: int) -> dict[str, float]:
    """Return losses and metrics of a round by name, for `CheckpointStore.history`."""
    found: dict[str, Any] = {}
    for attribute, name in _LOSSES.items():
        found.update((name, value) for at, value in getattr(history, attribute) if at == number)
    for attribute, kind in _KINDS.items():
        for key, values in getattr(history, attribute).items():
            found.update({f"{kind}_{key}": value for at, value in values if at == number})
    return {name: value for name, value in found.items() if type(value) in (int, float)}
