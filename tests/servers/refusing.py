"""A web server that has objects, and answers some of them by a status, or not at all."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["RefusingServer", "refusing_server"]


@dataclass
class RefusingServer:
    """What it has, and how it answers."""

    endpoint: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    """Content by name."""
    answers: dict[str, int] = field(default_factory=dict)
    """Status by name; 0: the connection is closed without an answer."""
    asked: list[str] = field(default_factory=list)
    """Names of all requests."""


@contextlib.contextmanager
def refusing_server() -> Iterator[RefusingServer]:
    """Provide one."""
    found = RefusingServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            found.asked.append(name)
            status = found.answers.get(name, 200 if name in found.objects else 404)
            if not status:
                self.close_connection = True
                return
            data = found.objects[name] if status == 200 else b""
            asked, first = self.headers.get("Range", ""), 0
            if status == 200 and asked.startswith("bytes="):
                begin, _, end = asked[6:].partition("-")
                first = int(begin) if begin else max(0, len(data) - int(end))
                last = int(end) if begin and end else len(data) - 1
                status, whole, data = 206, len(data), data[first : last + 1]
                self.send_response(status)
                self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{whole}")
            else:
                self.send_response(status)
            self.send_header("ETag", f'"{name}"')
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
