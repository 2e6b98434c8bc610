"""A SuperNode that calls the ClientApp of `streamapp` itself, where Flower starts a process for each message.

It speaks with the SuperLink by the calls of Flower's own SuperNode. Run as ``python quicknode.py ADDRESS``.
"""

from __future__ import annotations

import importlib
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any


def answer(connection: tuple[Any, ...], app: Any) -> None:
    """Answer messages until this process is killed."""
    from flwr.app import Context, RecordDict
    from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
    from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree, push_objects
    from flwr.supercore.task_identity import TaskIdentity

    node, receive, send, _, _, pull, push, confirm = connection
    while True:
        found = receive()
        if found is None:
            time.sleep(0.2)
            continue
        header, tree = found
        run = TaskIdentity.run_id = header.metadata.run_id
        TaskIdentity.task_id, TaskIdentity.node_id = 1, node
        message = pull_and_inflate_object_from_tree(tree, partial(pull, run), partial(confirm, run))
        message.metadata.__dict__["_message_id"] = header.metadata.message_id
        reply = app(message, Context(run, node, {}, RecordDict(), {}))
        reply.metadata.__dict__["_message_id"] = reply.object_id
        objects = get_all_nested_objects(reply)
        wanted, session = send(reply, get_object_tree(reply), 0.0)
        push_objects(objects, partial(push, run, session), object_ids_to_push=wanted)


def main() -> None:
    from flwr.supernode.fleet_http_connection import http_request_response

    sys.path.insert(0, str(Path(__file__).parent / "streamapp"))
    app = importlib.import_module("streamapp.client_app").app
    with http_request_response(sys.argv[1], insecure=True) as connection:
        sys.stdout.write(f"SuperNode ID: {connection[0]}\n")
        sys.stdout.flush()
        answer(connection, app)


if __name__ == "__main__":
    main()
