"""A small web server with the habits of many: with and without ranges, ETags, lengths and HEAD."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class WebServer:
    """Objects by path, and how they are served; the first part of a path names that.

    ``plain``: ranges, ETag, If-Match. ``noranges``, ``nosuffix``: none, none of the last bytes.
    ``noetag``, ``weak``: Last-Modified alone, a weak ETag. ``nomatch``: If-Match is not looked at.
    ``nohead``, ``nolength``. ``aws-chunked``, ``gzip``: what Content-Encoding says.
    ``loop``: sent to itself for ever.
    """

    endpoint: str = ""
    objects: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    """Content and version by path below the habits."""
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and range of each request."""
    connections: int = 0
    """How many were opened."""

    def place(self, name: str, data: bytes) -> None:
        """Serve an object under any habits."""
        self.objects[name] = data, self.objects.get(name, (b"", 0))[1] + 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: WebServer

    def setup(self) -> None:
        super().setup()
        self.web.connections += 1

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        # a proxy names the whole URL; the folder above an object has no name
        _, habits, name = [*urlsplit(self.path).path.split("/", 2), ""][:3]
        asked = self.headers.get("Range", "")
        self.web.requests.append((self.command, name, asked))
        if habits == "loop":
            return self._send(302, b"", {"Location": self.path})
        if name not in self.web.objects:
            return self._send(404, b"", {})
        if self.command == "HEAD" and "nohead" in habits:
            return self._send(405, b"", {})
        data, version = self.web.objects[name]
        headers = {"Last-Modified": f"Mon, 02 Nov 2026 10:00:{version % 60:02} GMT"}
        if habits in ("aws-chunked", "gzip"):
            headers["Content-Encoding"] = habits
        tag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        if "weak" in habits:
            headers["ETag"] = f"W/{tag}"
        elif "noetag" not in habits:
            headers["ETag"] = tag
            if "nomatch" not in habits and self.headers.get("If-Match", tag) != tag:
                return self._send(412, b"", {})
        span = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
        if span is None or "noranges" in habits:
            return self._send(200, data, headers, "nolength" in habits)
        if not span[1]:
            if "nosuffix" in habits or not data:
                return self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            begin, end = max(len(data) - int(span[2]), 0), len(data)
        else:
            begin, end = int(span[1]), min(int(span[2] or len(data)) + 1, len(data))
        if begin >= end:
            return self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(data)}"
        return self._send(206, data[begin:end], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str], chunked: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            if chunked and body
            else body or b"0\r\n\r\n" * chunked
        )


@contextmanager
def web_server(host: str = "127.0.0.1") -> Iterator[WebServer]:
    """Start one on a port of its own."""
    web = WebServer()
    handler = type("Handler", (_Handler,), {"web": web})
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    serving = type("Serving", (ThreadingHTTPServer,), {"address_family": family, "daemon_threads": True})
    with serving((host, 0), handler) as server:
        web.endpoint = f"http://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield web
        server.shutdown()
        thread.join()
