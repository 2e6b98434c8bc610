"""Coroutines of fsspec's clients, run from any thread with a limit; what is given up is cancelled."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Coroutine
from queue import SimpleQueue
from typing import Any, TypeVar

from archive.storage.protocols import Take
from archive.storage.remote.clients.retry import Fault, Kind
from archive.storage.remote.objectstore import Buffer

__all__ = ["Arrivals", "Hand", "run_on"]

T = TypeVar("T")

Hand = Callable[[int, Buffer], Awaitable[None]]
"""What a coroutine calls with the bytes that came, and where they begin."""

GRACE = 5.0
"""Seconds that a cancelled request may take to let go of its connection."""
AHEAD = 2
"""Chunks of a request that may wait to be taken."""
PAUSE = 0.001
"""Seconds until a request that has so many looks again."""


class Arrivals:
    """The bytes of one request, from the thread of requests to the thread that waits for them.

    That thread alone takes them: copies and digests keep no other request waiting, and after the thread went
    on nobody writes to its memory.

    Parameters
    ----------
    take : Take
        Called in the thread that waits.
    """

    def __init__(self, take: Take) -> None:
        self._take = take
        self._waiting: SimpleQueue[tuple[int, Buffer] | None] = SimpleQueue()

    async def hand(self, at: int, chunk: Buffer) -> None:
        """Hand bytes over, on the loop; return when there is room for more."""
        self._waiting.put((at, chunk))
        while self._waiting.qsize() >= AHEAD:
            await asyncio.sleep(PAUSE)

    def take_all(self, future: concurrent.futures.Future[Any]) -> None:
        """Take what comes until a future is done."""
        future.add_done_callback(lambda _: self._waiting.put(None))
        for at, chunk in iter(self._waiting.get, None):
            self._take(at, chunk)


def run_on(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, T],
    seconds: float,
    arrivals: Arrivals | None = None,
) -> T:
    """Run a coroutine on a loop of another thread, take what it hands over, and wait for it.

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
        if arrivals is not None:
            arrivals.take_all(future)
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
