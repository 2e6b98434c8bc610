"""What was saved compared with Flower's own records, and our behaviour with Flower's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import archive
from tests.interop.flower.live.names import Names, has_three_spaces, views


def same_value(ours: Any, theirs: Any) -> None:
    """Compare two values of a record: type, bits and, of lists, every item."""
    if isinstance(theirs, list):
        assert type(ours) is list
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            same_value(mine, other)
        return
    expected = float if isinstance(theirs, float) else type(theirs)
    assert type(ours) is expected, (ours, theirs)
    assert ours == theirs or (ours != ours and theirs != theirs)
    assert repr(ours) == repr(expected(theirs))


def same_values(ours: Any, theirs: Any, kind: type[Any]) -> None:
    assert type(ours) is kind
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        same_value(ours[key], value)


def same_arrays(ours: Any, theirs: Any, kind: type | None = None) -> None:
    assert isinstance(ours, archive.ArrayRecord)
    assert kind is None or type(ours) is kind
    assert list(ours) == list(theirs)
    assert ours.count_bytes() == theirs.count_bytes()
    for key, array in theirs.items():
        mine = ours[key]
        assert type(mine) is archive.Array
        assert (mine.dtype, tuple(mine.shape), mine.stype) == (array.dtype, tuple(array.shape), array.stype)
        assert mine.data == array.data, key
        assert mine.shape == array.shape


def same_records(lib: Names, ours: Any, theirs: Any) -> None:
    """Compare a container of ours with Flower's: type, names and order, and every record."""
    three = has_three_spaces(lib)
    assert type(ours) is (archive.RecordSet if three else archive.RecordDict)
    if not three:
        assert list(ours) == list(theirs)
    mine = views(lib, ours)
    for ours_of_kind, theirs_of_kind in zip(mine, views(lib, theirs), strict=True):
        assert list(ours_of_kind) == list(theirs_of_kind)
    arrays, metrics, configs = views(lib, theirs)
    for name, record in arrays.items():
        same_arrays(mine[0][name], record, archive.ParametersRecord if three else archive.ArrayRecord)
    for name, record in metrics.items():
        same_values(mine[1][name], record, archive.MetricRecord)
    for name, record in configs.items():
        same_values(mine[2][name], record, archive.ConfigRecord)


def reopened(path: str) -> tuple[Any, Any]:
    """Verify an archive; return its records as they are opened and as they are loaded."""
    assert archive.verify(path)
    return archive.open(path, verify="open").records, archive.load(path)


def text_of(function: Callable[[], Any]) -> str:
    """Return type and text of the error, class names without their modules."""
    try:
        function()
    except Exception as error:  # noqa: BLE001 the error is what is compared
        return f"{type(error).__name__}: " + re.sub(r"<class '[\w.]*?(\w+)'>", r"<class '\1'>", str(error))
    return "no error"


def kind_of(function: Callable[[], Any]) -> str:
    return text_of(function).partition(":")[0]


def assert_alike(behaviour: Callable[[Names], Any], flower: Names, ours: Names, differs: bool) -> None:
    theirs, mine = _outcome(behaviour, flower), _outcome(behaviour, ours)
    if differs:
        assert mine != theirs, f"no difference any more: both {mine!r:.2000}"
    else:
        assert mine == theirs, f"flwr: {theirs!r:.4000}\nours: {mine!r:.4000}"


def alike(differs: Callable[[Names], bool] | bool = False) -> Callable[..., Callable[[Names, Names], None]]:
    """Make a test of a behaviour: with Flower's names and with ours it has the same outcome.

    ``differs`` marks where our behaviour is another one on purpose, and in which generations.
    """

    def decorate(behaviour: Callable[[Names], Any]) -> Callable[[Names, Names], None]:
        def test(flower: Names, ours: Names) -> None:
            assert_alike(behaviour, flower, ours, differs(flower) if callable(differs) else differs)

        return test

    return decorate


def _outcome(behaviour: Callable[[Names], Any], lib: Names) -> Any:
    try:
        return behaviour(lib)
    except Exception as error:  # noqa: BLE001 the error is what is compared
        return type(error).__name__
