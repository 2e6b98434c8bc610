"""An executor of this process whose tasks and results are pickled, as those of other processes are."""

from __future__ import annotations

import pickle
from concurrent.futures import Executor, Future
from typing import Any

from archive.errors import ArchiveError

__all__ = ["PickledExecutor"]


class PickledExecutor(Executor):
    """Runs each task as it is submitted."""

    def __init__(self) -> None:
        self.tasks: list[bytes] = []
        """What went to the other side."""

    def submit(self, call: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.tasks.append(pickle.dumps((call, arguments, named)))
        call, arguments, named = pickle.loads(self.tasks[-1])
        try:
            future.set_result(pickle.loads(pickle.dumps(call(*arguments, **named))))
        except ArchiveError as error:
            future.set_exception(pickle.loads(pickle.dumps(error)))
        return future
