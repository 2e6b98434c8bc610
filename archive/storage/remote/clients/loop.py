"""Coroutines of fsspec's clients, run from any thread with a limit; what is given up is cancelled."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine
from typing import Any, TypeVar

from archive.storage.remote.clients.retry import Fault, Kind

__all__ = ["run_on"]

T = TypeVar("T")

GRACE = 5.0
"""Seconds that a cancelled request may take to let go of its connection."""


def run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], seconds: float) -> T:
    """Run a coroutine on a loop of another thread and wait for it.

    Unlike `fsspec.asyn.sync` it leaves nothing running behind a timeout or Ctrl-C: a part that arrived
    after its upload was aborted would stay on the server.

    Raises
    ------
    Fault
        TRANSIENT: it took longer than ``seconds``.
    """
    if _on_loop(loop):
        work.close()
        raise RuntimeError("called from the thread that does the requests; it would wait for itself")
    ended = concurrent.futures.Future[None]()

    async def bounded() -> T:
        try:
            return await asyncio.wait_for(work, seconds)
        except asyncio.TimeoutError as error:
            raise Fault(Kind.TRANSIENT, f"no answer within {seconds:.0f} s") from error
        finally:
            ended.set_result(None)

    future = asyncio.run_coroutine_threadsafe(bounded(), loop)
    try:
        return future.result()
    finally:  # interrupted while it waited: what is under way ends before anybody goes on
        if not future.done() and future.cancel():
            concurrent.futures.wait([ended], GRACE)


def _on_loop(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether this thread is the one that runs the loop, where waiting for it would never end."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
