"""The example app, as its README says: killed, started again, and the same digest."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fl4health")

from fl4health.utils.parameter_extraction import get_all_model_parameters

from archive.interop.torch import load_state

EXAMPLE = Path(__file__).parents[3] / "examples" / "fl4health"


def start(run: Path, what: str, *more: str, address: str) -> subprocess.Popen[str]:
    command = [sys.executable, f"{what}.py", str(run), *more, "--address", address]
    out = subprocess.PIPE
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=EXAMPLE, stdout=out, stderr=subprocess.STDOUT, text=True, env=env)


def start_all(run: Path) -> list[subprocess.Popen[str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    server = start(run, "server", address=address)
    host, _, port = address.partition(":")
    while True:
        assert server.poll() is None, server.communicate()[0]
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                break
        time.sleep(0.05)
    return [server, *(start(run, "client", name, address=address) for name in ("north", "south"))]


def finish(run: Path) -> list[str]:
    processes = start_all(run)
    try:
        outputs = [process.communicate(timeout=600)[0] for process in processes[1:]]
        assert [process.returncode for process in processes[1:]] == [0, 0], outputs
        outputs.insert(0, processes[0].communicate(timeout=600)[0])
    finally:
        for process in processes:
            process.kill()  # does nothing where the process has ended
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    return outputs[0].splitlines()


@pytest.mark.timeout(2400)
def test_killed_and_started_again_it_ends_with_the_digest_of_an_uninterrupted_run(tmp_path: Path) -> None:
    whole = finish(tmp_path / "whole")
    processes = start_all(tmp_path / "run")
    while not (tmp_path / "run/scaffold/rounds/00000002.h5").exists():
        assert processes[0].poll() is None, processes[0].communicate()[0]
        time.sleep(0.01)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    resumed = finish(tmp_path / "run")
    assert [line for line in resumed if "fedarchive: resuming after round " in line]
    assert resumed[-1] == whole[-1]
    state: dict[str, Any] = load_state(tmp_path / "run/scaffold/rounds/00000005.h5", keys=["model"])
    sys.path.insert(0, str(EXAMPLE))
    import net  # type: ignore[import-not-found]

    made = net.make_net()
    made.load_state_dict(state["model"])
    assert len(get_all_model_parameters(made).tensors) == 4
