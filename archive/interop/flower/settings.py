"""How a run is to be run, and what must be true of its saved rounds before it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from archive.errors import ExistsError, MissingError, ValueRangeError
from archive.interop.flower.parameternames import Names
from archive.interop.flower.roundstate import Snapshot
from archive.interop.flower.strategystate import SchemaError, strategy_class

__all__ = ["Settings", "require_app", "require_strategy", "require_wanted"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Arguments of `Resumable` that say how its strategy is run."""

    every: int = 1
    """Save each round whose number is a multiple, and the last round."""
    resume: Literal["auto", "never", "must"] = "auto"
    """Whether rounds may be there at the start."""
    seed: int | None = None
    """Of the selection of clients; None where clients and replies come as they come."""
    exclude: tuple[str, ...] = ()
    """Attributes of the strategy that are not saved."""
    names: Names = None
    """Of the arrays, where the API has none."""
    packer: Any = None
    """By which the strategy packed its arrays."""


def require_wanted(found: Snapshot | None, settings: Settings, total: int | None, shown: str) -> None:
    """Raise where rounds are there, or are not, against the script's wish."""
    if found is None and settings.resume == "must":
        raise MissingError(
            'there is no round to resume after, and resume="must"',
            path=shown,
            remedy="look whether the url and the experiment are those of the run",
        )
    if found is not None and settings.resume == "never":
        raise ExistsError(
            f'round {found.round} was saved here, and resume="never"',
            path=shown,
            remedy="give another url or experiment",
        )
    if found is not None and total is not None and found.round > total:
        raise ValueRangeError(
            f"{found.round} rounds are done, and {total} are asked for",
            path=shown,
            remedy=f"ask for {found.round} or more; or go back, which removes the rounds after it: "
            f"CheckpointStore({shown!r}).rewind({total})",
        )


def require_app(before: Mapping[str, str], identity: Mapping[str, str], shown: str) -> None:
    """Raise where the run is that of another app; what Flower does not say is not compared."""
    for key, was in before.items():
        now = identity.get(key, was)
        if was and now and was != now:
            raise SchemaError(
                f"saved by an app whose {key} is {was!r}, and this app's is {now!r}",
                path=shown,
                remedy="give another url or experiment",
            )


def require_strategy(found: Snapshot, strategy: Any, shown: str) -> None:
    """Raise where the round was saved with another class of strategy."""
    if found.strategy != strategy_class(strategy):
        raise SchemaError(
            f"saved with {found.strategy}, not with {strategy_class(strategy)}",
            path=shown,
            remedy="resume with the saved strategy, or give another url or experiment",
        )
