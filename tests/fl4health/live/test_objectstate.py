"""FL4Health's own objects as values: saved as an archive, and back into objects that were made anew."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fl4health")

import torch
from fl4health.metrics import F1, Accuracy
from fl4health.metrics.compound_metrics import EmaMetric
from fl4health.metrics.efficient_metrics import BinaryDice
from fl4health.metrics.metric_managers import MetricManager
from fl4health.reporting import JsonReporter
from fl4health.reporting.reports_manager import ReportsManager
from fl4health.utils.losses import EvaluationLosses, LossMeter, LossMeterType, TrainingLosses
from flwr.server.history import History

from archive.interop.fl4health.objectstate import Fresh, StateMismatchError, apply, state_of
from archive.interop.torch import load_state, save_state


def through(thing: Any, fresh: Any, folder: Path) -> Any:
    skipped: list[str] = []
    save_state(state_of(thing, skipped), folder / "a.h5")
    assert skipped == []
    return apply(fresh, load_state(folder / "a.h5"), "thing")


@pytest.mark.parametrize("kind", LossMeterType)
def test_a_loss_meter_computes_the_same(kind: LossMeterType, tmp_path: Path) -> None:
    meter: Any = LossMeter(kind, TrainingLosses)
    for step in range(3):
        loss = torch.nn.functional.mse_loss(torch.ones(2, requires_grad=True), torch.full((2,), step / 3))
        meter.update(TrainingLosses(loss, {"penalty": torch.tensor(step / 7)}))
    again = through(meter, LossMeter(kind, TrainingLosses), tmp_path)
    assert again.compute().as_dict() == meter.compute().as_dict()
    evaluations: Any = LossMeter(kind, EvaluationLosses)
    evaluations.update(EvaluationLosses(torch.tensor(0.3)))
    made = through(evaluations, LossMeter(kind, EvaluationLosses), tmp_path)
    assert made.compute().as_dict() == evaluations.compute().as_dict()


def metrics() -> list[Any]:
    return [Accuracy(), F1(), EmaMetric(Accuracy()), BinaryDice(batch_dim=0, label_dim=None)]


def test_a_metric_manager_computes_the_same_and_goes_on(tmp_path: Path) -> None:
    draws = torch.Generator().manual_seed(1)

    def batch() -> tuple[Any, Any]:
        return {"prediction": torch.rand(6, generator=draws)}, (torch.rand(6, generator=draws) > 0.5).long()

    manager = MetricManager(metrics()[::2], "train")
    for _ in range(3):
        manager.update(*batch())
        manager.compute()
    again = through(manager, MetricManager(metrics()[::2], "train"), tmp_path)
    more = batch()
    for one in (manager, again):
        one.update(*more)
    assert again.compute() == manager.compute()


def test_a_reports_manager_has_its_reports_again(tmp_path: Path) -> None:
    manager = ReportsManager([JsonReporter("north", tmp_path), JsonReporter("second", tmp_path)])
    manager.initialize(id="x")
    manager.report({"loss": 0.5, "name": "a"}, 3)
    fresh = ReportsManager([JsonReporter("north", tmp_path), JsonReporter("second", tmp_path)])
    again = through(manager, fresh, tmp_path)
    assert again is fresh
    assert [reporter.metrics for reporter in again.reporters] == [
        reporter.metrics for reporter in manager.reporters
    ]
    with pytest.raises(StateMismatchError, match="2 items were saved, but 1 are here"):
        through(manager, ReportsManager([JsonReporter("north", tmp_path)]), tmp_path)


def test_a_history_is_the_same(tmp_path: Path) -> None:
    history = History()
    history.add_loss_distributed(1, 0.5)
    history.add_metrics_distributed(1, {"accuracy": 0.25, "name": "x"})
    assert vars(through(history, History(), tmp_path)) == vars(history)


def test_optimizers_and_schedulers_take_the_same_steps(tmp_path: Path) -> None:
    def make() -> dict[str, Any]:
        torch.manual_seed(1)
        net = torch.nn.Linear(3, 1)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
        return {"net": net, "o": optimizer, "s": torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)}

    def step(made: dict[str, Any]) -> None:
        made["o"].zero_grad()
        made["net"](torch.ones(2, 3)).sum().backward()
        made["o"].step()
        made["s"].step()

    first = make()
    for _ in range(3):
        step(first)
    again = through(first, make(), tmp_path)
    for made in (first, again):
        step(made)
    assert torch.equal(first["net"].weight, again["net"].weight)


def test_models_of_earlier_rounds_are_made_of_the_model(tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 1)
    old = [torch.nn.Linear(3, 1) for _ in range(2)]
    save_state(state_of(old, []), tmp_path / "a.h5")
    state = load_state(tmp_path / "a.h5")
    again = apply([], state, "old_models_list", [net])
    assert [torch.equal(one.weight, other.weight) for one, other in zip(old, again, strict=True)] == [
        True
    ] * 2
    assert not again[0].weight.requires_grad
    with pytest.raises(StateMismatchError, match="object that this script has not"):
        apply([], state, "old_models_list", [torch.nn.Linear(3, 1, bias=False)])


def test_what_the_script_makes_anew_is_left_out_and_the_rest_is_said() -> None:
    class Slotted:
        __slots__ = ("a",)

    class Holder:
        def __init__(self) -> None:
            self.loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(3)))
            self.path, self.hook, self.odd = Path(), lambda: None, Slotted()

    skipped: list[str] = []
    assert state_of(Holder(), skipped, "holder") == {"attributes": {}}
    assert skipped == ["holder/odd"]


def test_an_enum_is_that_of_the_script() -> None:
    class Kind(enum.Enum):
        A = 1
        B = 2

    assert apply(Kind.A, state_of(Kind.B, []), "kind") is Kind.B
    with pytest.raises(StateMismatchError, match="'kind': the saved state does not fit"):
        apply(Kind.A, {"enum": "C"}, "kind")


def test_settings_inside_of_objects_are_told_from_state() -> None:
    before = {"strategy": {"attributes": {"rate": {"value": 0.1}, "moments": {"value": None}}}}
    after = {"strategy": {"attributes": {"rate": {"value": 0.1}, "moments": {"value": torch.ones(1)}}}}
    assert list(Fresh(before).changed(after)["strategy"]["attributes"]) == ["moments"]
