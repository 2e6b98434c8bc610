"""``python -m tests.servers.datedmoto PORT``: moto's S3 server, which says when an upload was begun.

moto says of every upload that it began in 2010. S3 says the second.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

_UPLOAD = re.compile(rb"<UploadId>([^<]*)</UploadId>")
_INITIATED = re.compile(rb"<Initiated>[^<]*</Initiated>")
_begun: dict[bytes, bytes] = {}
"""When each upload was begun, as S3 writes it, by its id."""


def dated(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Have an application note when uploads are begun, and list them so."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if "uploads" not in parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True):
            return application(environ, start)
        head: list[Any] = []
        body = b"".join(application(environ, lambda *given: head.extend(given)))
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z").encode()
        if environ["REQUEST_METHOD"] == "POST":
            _begun.update((upload, now) for upload in _UPLOAD.findall(body))
        else:
            times = iter([_begun.get(upload, now) for upload in _UPLOAD.findall(body)])
            body = _INITIATED.sub(lambda _: b"<Initiated>%b</Initiated>" % next(times), body)
        status, headers, *_ = head
        sized = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start(status, [*sized, ("Content-Length", str(len(body)))])
        return [body]

    return answer


if __name__ == "__main__":
    moto: Any = DomainDispatcherApplication(create_backend_app)
    run_simple("127.0.0.1", int(sys.argv[1]), dated(moto), threaded=True)
