"""What load_model makes of modules that differ from the saved one, and what it reads for it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.storage.url import URL
from tests.handout import measure
from tests.storage.folderstore import FolderStore, reach

torch = pytest.importorskip("torch")
from archive.interop.torch import (  # noqa: E402 needs torch
    ModelMismatchError,
    load_model,
    load_state,
    save_model,
    save_state,
)

nn: Any = torch.nn
MiB = 1 << 20


def net(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def same(left: Any, right: Any) -> bool:
    """Tell whether two modules have equal state dicts."""
    mine, theirs = left.state_dict(), right.state_dict()
    return list(mine) == list(theirs) and all(torch.equal(mine[key], theirs[key]) for key in mine)


def trained(optimizers: int = 1) -> tuple[Any, list[Any]]:
    made = net()
    parts = list(made.parameters())
    made_optimizers = [torch.optim.Adam(parts[at::optimizers], lr=0.01) for at in range(optimizers)]
    made(torch.randn(5, 4)).square().sum().backward()
    for optimizer in made_optimizers:
        optimizer.step()
    return made, made_optimizers


def test_save_model_writes_what_save_state_writes(tmp_path: Path) -> None:
    module, (optimizer,) = trained()
    save_model(module, tmp_path / "model.h5", optimizer=optimizer, created="2026-01-01T00:00:00Z")
    state = {"model": module.state_dict(), "optimizer": optimizer.state_dict()}
    save_state(state, tmp_path / "state.h5", created="2026-01-01T00:00:00Z")
    model, other = (archive.load(tmp_path / name) for name in ("model.h5", "state.h5"))
    assert model.array_records == other.array_records
    values = model.config_records["fedarchive.state"]
    assert values.pop("classes") == '{"optimizer":"torch.optim.adam.Adam"}'
    assert values == other.config_records["fedarchive.state"]


def test_each_reads_the_files_of_the_other(tmp_path: Path) -> None:
    module, (optimizer,) = trained()
    save_state({"model": module.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "s.h5")
    other = net(1)
    again = torch.optim.Adam(other.parameters())
    load_model(other, tmp_path / "s.h5", optimizer=again)
    assert same(module, other)
    assert again.state_dict()["state"][0]["exp_avg"].equal(optimizer.state_dict()["state"][0]["exp_avg"])
    save_model(module, tmp_path / "m.h5", optimizer=optimizer)
    found = load_state(tmp_path / "m.h5")
    torch.optim.Adam(other.parameters()).load_state_dict(found["optimizer"])
    assert list(found["model"]) == list(module.state_dict())


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict"])
def test_the_keys_that_programs_use(tmp_path: Path, key: str) -> None:
    module = net()
    save_state({"epoch": 1, key: module.state_dict()}, tmp_path / "s.h5")
    other = net(1)
    load_model(other, tmp_path / "s.h5")
    assert same(module, other)
    save_state(module.state_dict(), tmp_path / "flat.h5")
    load_model(other, tmp_path / "flat.h5")
    assert same(module, other)


def test_two_optimizers_two_schedulers_and_a_scaler(tmp_path: Path) -> None:
    module, optimizers = trained(2)
    schedulers = [torch.optim.lr_scheduler.StepLR(optimizer, 1) for optimizer in optimizers]
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    save_model(module, tmp_path / "m.h5", optimizer=optimizers, scheduler=schedulers, scaler=scaler)
    other, others = trained(2)
    more = [torch.optim.lr_scheduler.StepLR(optimizer, 5) for optimizer in others]
    fresh = torch.amp.GradScaler("cpu")
    load_model(other, tmp_path / "m.h5", optimizer=others, scheduler=more, scaler=fresh)
    assert fresh.get_scale() == 512
    assert [scheduler.step_size for scheduler in more] == [1, 1]
    for one, two in zip(optimizers, others, strict=True):
        for mine, theirs in zip(one.state.values(), two.state.values(), strict=True):
            assert torch.equal(mine["exp_avg"], theirs["exp_avg"])
    with pytest.raises(ModelMismatchError, match=r"optimizer: saved \['torch"):
        load_model(other, tmp_path / "m.h5", optimizer=others[0])
    save_state({"model": module.state_dict(), "optimizer": [optimizers[0].state_dict()]}, tmp_path / "s.h5")
    with pytest.raises(ModelMismatchError, match="optimizer: saved 1, not 2"):
        load_model(other, tmp_path / "s.h5", optimizer=others)


def test_wrapped_keys(tmp_path: Path) -> None:
    module = net()
    wrapped = {f"module._orig_mod.{key}": value for key, value in module.state_dict().items()}
    archive.save(wrapped, tmp_path / "ddp.h5")
    other = net(1)
    with pytest.raises(ModelMismatchError, match="unwrap=True"):
        load_model(other, tmp_path / "ddp.h5")
    load_model(other, tmp_path / "ddp.h5", unwrap=True)
    assert same(module, other)
    save_model(module, tmp_path / "plain.h5")
    outer = nn.Module()
    outer.module = net(2)
    load_model(outer, tmp_path / "plain.h5", unwrap=True)
    assert same(module, outer.module)
    archive.save(wrapped | module.state_dict(), tmp_path / "both.h5")
    with pytest.raises(ModelMismatchError, match=r"0\.weight: saved twice"):
        load_model(other, tmp_path / "both.h5", unwrap=True)


def test_a_part_of_a_larger_model(tmp_path: Path) -> None:
    whole = nn.ModuleDict({"encoder": net(), "head": nn.Linear(2, 2)})
    save_model(whole, tmp_path / "m.h5")
    encoder = net(1)
    load_model(encoder, tmp_path / "m.h5", prefix="encoder.")
    assert same(whole["encoder"], encoder)


def test_some_keys(tmp_path: Path) -> None:
    module = net()
    save_model(module, tmp_path / "m.h5")
    other = net(1)
    before = copy.deepcopy(other)
    report = load_model(other, tmp_path / "m.h5", keys=["0.*", "2.bias"])
    assert report == ([], [])
    assert torch.equal(other[0].weight, module[0].weight)
    assert torch.equal(other[2].bias, module[2].bias)
    assert torch.equal(other[2].weight, before[2].weight)


def test_types_are_converted(tmp_path: Path) -> None:
    module = net()
    save_model(module, tmp_path / "m.h5")
    other = net(1).bfloat16()
    load_model(other, tmp_path / "m.h5", dtype=torch.bfloat16)
    assert torch.equal(other[0].weight, module[0].weight.bfloat16())
    assert other[1].num_batches_tracked.dtype == torch.int64
    with torch.device("meta"):
        meta, meta16 = net(), net().bfloat16()
    load_model(meta, tmp_path / "m.h5", dtype=torch.float64, strict=False)
    assert meta[0].weight.dtype == torch.float32  # the module's own
    load_model(meta16, tmp_path / "m.h5", strict=False)
    assert torch.equal(meta16[0].weight, module[0].weight.bfloat16())
    assert meta16[0].weight.requires_grad


def test_a_module_of_which_a_part_is_on_meta_keeps_its_other_parameters(tmp_path: Path) -> None:
    save_model(net(), tmp_path / "m.h5")
    module = net(1)
    module[2] = nn.Linear(8, 2, device="meta")
    kept = module[0].weight
    load_model(module, tmp_path / "m.h5", device="cpu")
    assert module[0].weight is kept
    assert same(module, net())


def test_strides_on_meta(tmp_path: Path) -> None:
    saved = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    save_model(saved, tmp_path / "m.h5")
    module = nn.Conv2d(3, 4, 3, device="meta")
    load_model(module, tmp_path / "m.h5")
    assert module.weight.stride() == saved.weight.stride()


def test_a_lazy_module_takes_its_shape(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 8))
    save_model(module, tmp_path / "m.h5")
    lazy = nn.Sequential(nn.LazyLinear(8))
    load_model(lazy, tmp_path / "m.h5")
    assert same(module, lazy)


def test_versions_of_modules_are_kept(tmp_path: Path) -> None:
    """A module of version 1 had no counter, and torch adds one as such a state is loaded."""
    module = nn.BatchNorm1d(2)
    state = module.state_dict()
    del state["num_batches_tracked"]
    state._metadata[""]["version"] = 1
    save_state({"model": state}, tmp_path / "s.h5")
    seen: list[Any] = []
    module.register_load_state_dict_pre_hook(lambda m, given, prefix, local, *rest: seen.append(local))
    load_model(module, tmp_path / "s.h5", strict=False)
    assert seen[0]["version"] == 1


class Large(nn.Module):
    """32 MiB of parameters, of which Adam keeps two moments."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ParameterList(nn.Parameter(torch.zeros(MiB)) for _ in range(8))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    module = Large()
    optimizer = torch.optim.Adam(module.parameters())
    for parameter in module.parameters():
        parameter.grad = torch.randn(MiB)
    optimizer.step()
    path = tmp_path_factory.mktemp("store") / "m" / "model.h5"
    path.parent.mkdir()
    save_model(module, path, optimizer=optimizer, durable=False)
    return path, module


@pytest.mark.parametrize("where", ["memory", "meta"])
@pytest.mark.parametrize("remote", [False, True])
def test_only_the_model_is_read_and_once(
    large: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch, where: str, remote: bool
) -> None:
    path, saved = large
    store = FolderStore(path.parents[1])
    reach(store, monkeypatch)
    url: URL = "folder://m/model.h5" if remote else path
    with torch.device("meta" if where == "meta" else "cpu"):
        module = Large()
    outcome = measure(lambda: load_model(module, url))
    assert outcome.error is None
    assert same(saved, module)
    assert outcome.peak_bytes < (2.1 if remote else 1.01) * 32 * MiB  # requests under way, 128 MiB at most
    if remote:
        moved = store.nbytes()
        assert 32 * MiB < moved < 34 * MiB
        assert len(store.asked) < 12


def test_metrics_beside(tmp_path: Path) -> None:
    loss = torch.tensor(0.5, requires_grad=True)
    given = {"loss": loss, "n": np.int64(3), "each": [np.float32(0.25), torch.tensor(1.0)]}
    save_model(net(), tmp_path / "m.h5", metrics=given, configs={"on": np.bool_(True)})
    records = archive.load(tmp_path / "m.h5")
    assert records.metric_records["metrics"] == {"loss": 0.5, "n": 3, "each": [0.25, 1.0]}
    assert records.config_records["configs"]["on"] is True
    with pytest.raises(TypeError, match=r"'configs/b': .*give each mapping as a record"):
        save_model(net(), tmp_path / "m.h5", configs={"a": 1, "b": {"c": 2}})
