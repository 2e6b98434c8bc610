"""Context: the state that a node keeps between the rounds of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from archive.records.recorddict import RecordDict
from archive.records.recordset import RecordSet
from archive.records.shown import Shown

__all__ = ["Context", "UserConfig"]

UserConfig: TypeAlias = dict[str, bool | float | int | str]


@dataclass(repr=False)
class Context(Shown):
    """The state that Flower passes to a client or server app beside the message.

    Follows Flower's ``Context``; nothing is checked, and every field may be assigned.

    Examples
    --------
    >>> context = Context(run_id=1, node_id=7, node_config={}, state=RecordDict(), run_config={"lr": 0.1})
    >>> context.run_config["lr"]
    0.1
    """

    run_id: int
    """The run that the state belongs to."""
    node_id: int
    """The node that holds the state."""
    node_config: UserConfig
    """Settings of the node, for example its partition in a simulation."""
    state: RecordSet | RecordDict
    """Records that live as long as the run."""
    run_config: UserConfig
    """Settings of the run."""
    series_id: int = 0
    """The series of runs that the run belongs to (Flower since 1.41)."""
