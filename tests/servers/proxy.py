"""An HTTP proxy that breaks things: between a client and a real server, at chosen requests.

It keeps the Host header, so that signatures hold, and counts what passes. Faults come from ``plan``, which
is asked for each request in the order in which they arrive.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

__all__ = ["FAULTS", "READ_FAULTS", "WRITE_FAULTS", "Fault", "Proxy", "Request"]

READ_FAULTS = (
    "500",
    "502",
    "503",
    "429",
    "reset-before",
    "reset-mid",
    "reset-after",
    "short",
    "short-honest",
    "shrunk",
    "stall",
    "stall-mid",
    "corrupt",
    "shift",
    "whole",
)
"""What can happen to a request that reads. A fault ``"400 ExpiredToken"`` is a status and its code."""
WRITE_FAULTS = (
    "500",
    "502",
    "503",
    "429",
    "400 RequestTimeout",
    "reset-before",
    "reset-upload",
    "reset-after",
    "lost",
    "short",
    "stall",
)
"""What can happen to a request that writes."""
FAULTS = tuple(dict.fromkeys(READ_FAULTS + WRITE_FAULTS))


# "away 3": for three seconds connections are refused; a request that comes first gets no answer


@dataclass
class Request:
    """One request, as it came and went."""

    method: str
    target: str
    range: str
    number: int
    """From 0, since `Proxy.reset`."""
    signature: str = ""
    """Its header Authorization."""
    received: int = 0
    """Bytes of its body."""
    sent: int = 0
    """Bytes of the reply's body that were passed on."""
    status: int = 0
    fault: str = ""
    reply: bytes = b""
    """Head and body as they were passed on, for the fault ``keep``."""


@dataclass
class Fault:
    """What to do to a request."""

    name: str
    before: Callable[[], object] | None = None
    """Called first: replaces the object, for instance."""
    reply: bytes | None = None
    """Head and body that the client gets instead of the server's."""
    forward: bool = False
    """Whether the server gets the request all the same."""


Plan = Callable[[Request], "Fault | str | None"]


@dataclass
class Proxy:
    """Listens on a port of its own, in a thread of its own.

    Parameters
    ----------
    upstream : str
        Endpoint of the server.
    """

    upstream: str
    plan: Plan | None = None
    latency: float = 0.0
    """Seconds before each reply."""
    seen: list[Request] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    """Whole objects by target, for the fault ``whole``."""
    port: int = 0
    host: str = "127.0.0.1"
    """Address that it listens at."""

    def __enter__(self) -> Proxy:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._tasks: set[asyncio.Task[None]] = set()
        self._returns: asyncio.Task[None] | None = None
        parts = urlsplit(self.upstream)
        self._host, self._upstream_port = str(parts.hostname), int(parts.port or 80)
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def endpoint(self) -> str:
        """Where clients connect to."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def bytes_sent(self) -> int:
        """Bytes of replies' bodies."""
        return sum(request.sent for request in self.seen)

    def reset(self, plan: Plan | None = None) -> None:
        """Forget what was seen and follow another plan; wait until a server that went away is back."""
        self.plan = None
        if self._returns is not None:
            asyncio.run_coroutine_threadsafe(asyncio.wait([self._returns]), self._loop).result()
        self.plan = plan
        self.seen = []

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, self.host, self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        """Refuse connections from here on."""
        # Python 3.10 loses a connection whose server closes between its accept and its first step: the
        # steps of all that are accepted come before ours
        loop = asyncio.get_running_loop()
        for listener in self._server.sockets:
            loop.remove_reader(listener.fileno())
        await asyncio.sleep(0)
        self._server.close()

    async def _go_away(self, seconds: float) -> None:
        """Refuse connections for a while, and break those there are."""
        if self._returns is None or self._returns.done():  # two requests may ask for it
            self._returns = asyncio.get_running_loop().create_task(self._come_back(seconds))

    async def _come_back(self, seconds: float) -> None:
        await self._hang_up()
        for task in self._tasks:  # also of a connection that came as we hung up: it would serve all the while
            task.cancel()
        await asyncio.sleep(seconds)
        await self._listen()

    async def _close(self) -> None:
        if self._returns is not None:
            self._returns.cancel()
            await asyncio.gather(self._returns, return_exceptions=True)
        await self._hang_up()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # what was aborted is closed by the loop's next turn

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # a task that is cancelled before its first step closes nothing: its end closes the connection
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        try:
            while await self._one(reader, writer, upstream):
                pass
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            for _, other in upstream:
                other.transport.abort()

    async def _one(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    ) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        signature = _header(head, "authorization")
        request = Request(method, target, _header(head, "range"), len(self.seen), signature)
        self.seen.append(request)
        fault = self.plan(request) if self.plan else None
        if isinstance(fault, str):
            fault = Fault(fault)
        name = request.fault = fault.name if fault else ""
        if fault and fault.before:
            await asyncio.get_running_loop().run_in_executor(None, fault.before)
        if name.startswith("away "):
            await self._go_away(float(name[5:]))
            return _reset(writer)
        if name == "reset-before":
            return _reset(writer)
        if _header(head, "expect").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if name == "reset-upload":
            # in the middle of what the client sends
            await reader.read(512)
            return _reset(writer)
        body = await _body(reader, head)
        request.received = len(body)
        if self.latency:
            await asyncio.sleep(self.latency)
        if name == "stall":
            await asyncio.sleep(3600)
        if name[:3].isdigit():
            request.status = int(name[:3])
            return await _refuse(writer, method, request.status, name[4:])
        outgoing = re.sub(rb"\r\n[Ee]xpect: [^\r]*", b"", head)
        if fault and fault.reply is not None:
            if fault.forward:
                back, start = await self._ask(outgoing, body, upstream)
                await _drain(back, start, method)
                _, other = upstream.pop()  # moto says close, and our client does not hear of that
                other.transport.abort()
            lie, _, page = fault.reply.partition(b"\r\n\r\n")
            writer.write(lie + b"\r\n\r\n" + (b"" if method == "HEAD" else page))
            await writer.drain()
            return True
        whole = name == "whole" and bool(request.range)
        answer = await self._ask(outgoing, body, upstream)
        back, start = answer
        request.status = int(start.split(b" ", 2)[1])
        if name == "lost":
            await _drain(back, start, method)
            return _reset(writer)
        return await self._reply(request, writer, back, start, name if not whole else "whole")

    async def _ask(
        self,
        head: bytes,
        body: bytes,
        upstream: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    ) -> tuple[asyncio.StreamReader, bytes]:
        for fresh in (not upstream, True):
            if fresh:
                for _, other in upstream:
                    other.transport.abort()
                upstream[:] = [await asyncio.open_connection(self._host, self._upstream_port, limit=1 << 20)]
            reader, writer = upstream[0]
            try:
                writer.write(head + body)
                await writer.drain()
                return reader, await reader.readuntil(b"\r\n\r\n")
            except (OSError, EOFError):
                if fresh:
                    raise
        raise EOFError

    async def _reply(
        self,
        request: Request,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamReader,
        head: bytes,
        name: str,
    ) -> bool:
        if not name:
            return await self._pass(request, writer, back, head)
        data = await _drain(back, head, request.method)
        half = len(data) // 2
        if name == "corrupt" and data:
            data = data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]
        elif name == "shift":
            head = re.sub(rb"(?i)(content-range: bytes )(\d+)-(\d+)", _shifted, head)
        elif name == "whole":
            # what a server sends that ignores Range; of an object we do not know, something else
            data = self.contents.get(request.target.partition("?")[0], bytes(64) + data)
            head = re.sub(rb"^HTTP/1.1 206[^\r]*", b"HTTP/1.1 200 OK", head)
            head = re.sub(rb"(?i)\r\ncontent-range: [^\r]*", b"", head)
            head = _with_length(head, len(data))
        elif name == "shrunk" and half:
            # fewer bytes than were asked for, and it says so
            head = re.sub(
                rb"(?i)(content-range: bytes )(\d+)-(\d+)",
                lambda found: b"%b%d-%d" % (found[1], int(found[2]), int(found[2]) + half - 1),
                head,
            )
            data = data[:half]
            head = _with_length(head, half)
        elif name == "short-honest":
            data = data[:half]
            head = _with_length(head, len(data))
        if re.search(rb"(?i)\r\ntransfer-encoding:", head):
            head = re.sub(rb"(?i)\r\ntransfer-encoding: [^\r]*", b"", head)
            head = head[:-2] + f"Content-Length: {len(data)}\r\n\r\n".encode()
        request.reply = head + data
        writer.write(head)
        cut = name in ("reset-mid", "short", "stall-mid") and request.method != "HEAD"
        sent = data[:half] if cut else data
        writer.write(sent)
        request.sent = len(sent)
        await writer.drain()
        if name == "stall-mid":
            await asyncio.sleep(3600)
        if name == "short":
            writer.close()
            return False
        if name in ("reset-mid", "reset-after"):
            await asyncio.sleep(0.01)
            return _reset(writer)
        return True

    async def _pass(
        self, request: Request, writer: asyncio.StreamWriter, back: asyncio.StreamReader, head: bytes
    ) -> bool:
        writer.write(head)
        length = _header(head, "content-length")
        if request.method == "HEAD" or request.status in (204, 304):
            return True
        if length:
            left = int(length)
            while left:
                chunk = await back.read(min(left, 1 << 18))
                if not chunk:
                    raise EOFError
                left -= len(chunk)
                request.sent += len(chunk)
                writer.write(chunk)
                await writer.drain()
            return True
        body = await _chunks(back)
        request.sent = len(body)
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n")
        await writer.drain()
        return True


def _header(head: bytes, name: str) -> str:
    found = re.search(rb"(?i)\r\n" + re.escape(name.encode()) + rb":[ \t]*([^\r]*)", head)
    return found[1].decode("latin-1") if found else ""


def _with_length(head: bytes, nbytes: int) -> bytes:
    return re.sub(rb"(?i)(content-length: )\d+", rb"\g<1>%d" % nbytes, head)


def _shifted(found: re.Match[bytes]) -> bytes:
    return b"%b%d-%d" % (found[1], int(found[2]) + 16, int(found[3]) + 16)


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    length = _header(head, "content-length")
    if length:
        return await reader.readexactly(int(length))
    if "chunked" in _header(head, "transfer-encoding"):
        raw = bytearray()
        while True:
            line = await reader.readline()
            raw += line + await reader.readexactly(int(line.split(b";")[0], 16) + 2)
            if int(line.split(b";")[0], 16) == 0:
                return bytes(raw)
    return b""


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    data = bytearray()
    while True:
        nbytes = int((await reader.readline()).split(b";")[0], 16)
        data += (await reader.readexactly(nbytes + 2))[:-2]
        if not nbytes:
            return bytes(data)


async def _drain(reader: asyncio.StreamReader, head: bytes, method: str) -> bytes:
    if method == "HEAD" or head.split(b" ", 2)[1] in (b"204", b"304"):
        return b""
    length = _header(head, "content-length")
    return await reader.readexactly(int(length)) if length else await _chunks(reader)


async def _refuse(writer: asyncio.StreamWriter, method: str, status: int, code: str) -> bool:
    code = code or {503: "SlowDown", 429: "TooManyRequests"}.get(status, "InternalError")
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    writer.write(
        f"HTTP/1.1 {status} Broken\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(text)}\r\n\r\n".encode()
        + (b"" if method == "HEAD" else text)
    )
    await writer.drain()
    writer.close()
    return False


def _reset(writer: asyncio.StreamWriter) -> bool:
    """End a connection with RST instead of FIN."""
    plain = writer.get_extra_info("socket")
    if plain is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
