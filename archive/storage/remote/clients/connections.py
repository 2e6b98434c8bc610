"""What clients on aiohttp share: one instance a process, and errors of a connection as faults.

A child of a fork inherits the event loop of fsspec, without the thread that runs it. When the child ends, the
file systems that it inherited close their connections: on an epoll set that parent and child share, so that
the parent would never hear of those connections again (20 s until it gives one up), and over TLS by a message
that ends them. So the child's copies of these descriptors are led elsewhere as it begins.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import fsspec.asyn

from archive import system
from archive.storage.remote.clients.retry import Fault, Kind

__all__ = ["CONNECT_SECONDS", "READ_SECONDS", "Instances", "fault_of_connection"]

CONNECT_SECONDS = 4
"""In which a connection comes about, or is tried again."""
READ_SECONDS = 20
"""Silence after which a request is sent again."""

_UNREACHABLE: tuple[type[Exception], ...] = (aiohttp.ClientConnectorError,)
if hasattr(aiohttp, "ConnectionTimeoutError"):  # aiohttp 3.10
    _UNREACHABLE += (aiohttp.ConnectionTimeoutError,)


# fsspec before 2025.3.1 hands the child of a fork its parent's loop, which no thread runs there
system.register_at_fork(after_in_child=fsspec.asyn.reset_lock)


class Instances:
    """File systems of fsspec by process: their loop does not survive a fork.

    No lock, which a fork could catch held. A parent's instance stays listed in the child, so that nobody
    there closes the connections they share.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: dict[int, Any] = {}
        self.get()

    def get(self) -> Any:
        """Return this process's instance."""
        made = self._made.get(os.getpid())
        return made if made is not None else self._made.setdefault(os.getpid(), self._make())


class _InheritedLoop:
    """The loop of fsspec that a child of a fork inherits; fsspec itself forgets it there."""

    def __init__(self) -> None:
        self._loop: Any = None

    def remember(self) -> None:
        """Before a fork: note the loop."""
        self._loop = fsspec.asyn.loop[0]

    def cut_off(self) -> None:
        """In the child: have the loop end in descriptors that nobody shares.

        By attributes that asyncio does not document; a loop of another kind (uvloop) has none of them.
        """
        selector = getattr(self._loop, "_selector", None)
        if selector is None:
            return
        transports = list(getattr(self._loop, "_transports", {}).values())
        sockets = [transport.get_extra_info("socket") for transport in transports]
        numbers = {*selector.get_map(), *(found.fileno() for found in sockets if found is not None)} - {-1}
        nowhere, other_end = socket.socketpair()
        other_end.close()
        with nowhere:
            for number in numbers:
                os.dup2(nowhere.fileno(), number, inheritable=False)
        if hasattr(select, "epoll") and hasattr(selector, "fileno"):
            with select.epoll() as empty:
                os.dup2(empty.fileno(), selector.fileno(), inheritable=False)


_inherited = _InheritedLoop()
system.register_at_fork(before=_inherited.remember, after_in_child=_inherited.cut_off)


def fault_of_connection(error: BaseException | None) -> Fault:
    """Return what an error of aiohttp or of the system says about a request."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, socket.gaierror) or isinstance(getattr(error, "os_error", None), socket.gaierror):
        return Fault(Kind.NO_SUCH_SERVER, "the host name is not known")
    if isinstance(error, aiohttp.ClientSSLError):
        return Fault(Kind.NO_SUCH_SERVER, "no secure connection came about: certificate or TLS")
    if isinstance(error, _UNREACHABLE):
        number = getattr(error, "errno", None)
        reason = f": {os.strerror(number)}" if isinstance(number, int) and number > 0 else ""
        return Fault(Kind.UNREACHABLE, f"the server cannot be reached{reason}")
    if isinstance(error, asyncio.TimeoutError):
        return Fault(Kind.TRANSIENT, "the server stopped answering")
    broken = isinstance(error, aiohttp.ClientError | OSError | EOFError)
    if broken and not isinstance(error, ValueError | aiohttp.TooManyRedirects):
        return Fault(Kind.TRANSIENT, f"the connection broke: {type(error).__name__}")
    return Fault(Kind.REFUSED, f"the request cannot be made: {type(error).__name__}")
