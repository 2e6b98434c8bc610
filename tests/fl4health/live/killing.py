"""A server and two clients as processes on loopback: killed in a round, and started again."""

from __future__ import annotations

import os
import pickle
import random
import signal
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flwr
import numpy as np
import torch

from archive.interop.fl4health import ClientStateCheckpointer, ServerStateCheckpointer
from tests.fl4health.live.algorithms import make_client, make_server

ROUNDS = 5
CLIENTS = ("north", "southern")

Makers = tuple[Callable[[str], Any], Callable[[str], Any]]
"""Make the state checkpointers of a server and of a client."""


def ours(url: str) -> Makers:
    return lambda _: ServerStateCheckpointer(url), lambda _: ClientStateCheckpointer(url)


def resumable(url: str) -> Makers:
    """Leave the server's state to its strategy, which `wrap` makes resumable."""
    return lambda _: None, lambda _: ClientStateCheckpointer(url)


def run(
    name: str, folder: Path, makers: Makers, *, seed: int = 1, kill_in: int | None = None, wrap: Any = None
) -> dict[str, Any] | None:
    """Run an algorithm to its end, or until all its processes are killed; return the results of each."""
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{_free_port()}"
    results = {who: folder / f"{who}-{os.urandom(4).hex()}" for who in ("server", *CLIENTS)}
    server = _fork(results["server"], 0, seed, lambda: _serve(name, address, makers[0], folder, wrap))
    _wait_for(address, server)
    children = [server]
    for number, client in enumerate(CLIENTS):
        work = _client_work(name, client, address, makers[1], folder, kill_in)
        children.append(_fork(results[client], server, seed + 10 * (number + 1), work))
    codes = [_wait(child) for child in children[1:]]
    if any(codes):  # the server would wait for other clients for ever
        os.killpg(server, signal.SIGKILL)
    codes.insert(0, _wait(server))
    if kill_in is not None:
        assert codes == [-signal.SIGKILL] * 3, f"not killed: {codes}: {_errors(results)}"
        return None
    assert codes == [0, 0, 0], _errors(results)
    return {who: pickle.loads(path.read_bytes()) for who, path in results.items()}


def _serve(name: str, address: str, maker: Callable[[str], Any], folder: Path, wrap: Any) -> dict[str, Any]:
    server = make_server(name, maker("server"), folder)
    if wrap is not None:
        server.strategy = wrap(server.strategy)
    config = flwr.server.ServerConfig(num_rounds=ROUNDS)
    history = flwr.server.start_server(server_address=address, server=server, config=config)
    # reports say when they were made, and how long rounds took
    return {"parameters": server.parameters.tensors, "history": vars(history), "random": random.random()}


def _client_work(
    name: str, client_name: str, address: str, maker: Callable[[str], Any], folder: Path, kill_in: int | None
) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        client = make_client(name, client_name, maker(client_name), folder)
        if kill_in is not None:
            _set_trap(client, kill_in)
        flwr.client.start_client(server_address=address, client=client.to_client())
        states = {key: optimizer.state_dict() for key, optimizer in client.optimizers.items()}
        variates = getattr(client, "client_control_variates", None)
        rounds = client.reports_manager.reporters[0].metrics["rounds"]
        return {
            "model": _bits(client.model.state_dict()),
            "optimizers": _bits(states),
            "variates": _bits(variates),
            "steps": (client.total_steps, client.total_epochs),
            "rounds": {number: _untimed(values) for number, values in rounds.items()},
            "random": (random.random(), float(torch.rand(1))),
        }

    return work


def _set_trap(client: Any, kill_in: int) -> None:
    """Have a client kill the whole group once it has trained and saved in a round."""
    if client.client_name != CLIENTS[1]:
        return
    keeper = client.checkpoint_and_state_module.state_checkpointer
    end = getattr(keeper, "end", None) or keeper.save_client_state

    def save_and_kill(*given: Any) -> None:
        end(*given)
        if client.reports_manager.reporters[0].metrics["rounds"].get(kill_in):
            os.killpg(0, signal.SIGKILL)

    setattr(keeper, end.__name__, save_and_kill)


def _bits(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: _bits(item) for key, item in value.items()}
    return [_bits(item) for item in value] if isinstance(value, (list, tuple)) else value


def _untimed(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not key.endswith(("start", "end", "elapsed"))}


def _fork(out: Path, group: int, seed: int, work: Callable[[], Any]) -> int:
    child = os.fork()
    if child:
        os.setpgid(child, group or child)
        return child
    code = 1
    try:
        os.setpgid(0, group)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        log = os.open(f"{out}.log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        out.write_bytes(pickle.dumps(work()))  # between this test and itself
        code = 0
    except BaseException:  # noqa: BLE001 the parent raises it
        out.write_text(traceback.format_exc())
    finally:
        os._exit(code)


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(address: str, server: int) -> None:
    host, _, port = address.rpartition(":")
    while os.waitpid(server, os.WNOHANG) == (0, 0):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the server ended before it listened")


def _errors(results: dict[str, Path]) -> str:
    files = [(who, file) for who, path in results.items() for file in (path, Path(f"{path}.log"))]
    texts = [f"{who}: {file.read_text(errors='replace')[-1500:]}" for who, file in files if file.exists()]
    return "\n".join(texts)
