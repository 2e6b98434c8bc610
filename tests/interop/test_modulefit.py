"""What load_model makes of modules that differ from the saved one, and what it reads for it."""

from __future__ import annotations

import copy
import json
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import ArchiveError, HostileFileError
from archive.storage.url import URL
from tests.handout import measure
from tests.servers.s3 import BUCKET, S3Server
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
    outer.weight, outer.module = nn.Parameter(torch.ones(2)), nn.Linear(1, 2, bias=False)
    archive.save({"weight": torch.ones(2, 1)}, tmp_path / "one.h5")
    with pytest.raises(ModelMismatchError, match="missing in the archive: weight"):
        load_model(outer, tmp_path / "one.h5", unwrap=True)  # only one of the two can be meant
    archive.save(wrapped | module.state_dict(), tmp_path / "both.h5")
    with pytest.raises(ModelMismatchError, match=r"0\.weight: saved twice"):
        load_model(other, tmp_path / "both.h5", unwrap=True)


def test_a_part_of_a_larger_model(tmp_path: Path) -> None:
    whole = nn.ModuleDict({"encoder": net(), "head": nn.Linear(2, 2)})
    save_model(whole, tmp_path / "m.h5")
    encoder = net(1)
    load_model(encoder, tmp_path / "m.h5", prefix="encoder.")
    assert same(whole["encoder"], encoder)
    with pytest.raises(ModelMismatchError, match=r"begins with 'encode\.', but with encoder, head"):
        load_model(encoder, tmp_path / "m.h5", prefix="encode.")


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
    with pytest.raises(ModelMismatchError, match=r"no key matches '3\.\*'"):
        load_model(other, tmp_path / "m.h5", keys=["0.*", "3.*"])
    other = net(1)
    load_model(other, tmp_path / "m.h5", keys="0.*")
    assert torch.equal(other[0].weight, module[0].weight)
    assert torch.equal(other[2].bias, before[2].bias)


@pytest.mark.parametrize(
    ("keys", "loaded"),
    [
        ("x[0]", {"x[0]"}),
        ("x[01]", {"x0", "x1"}),
        ("a/b", {"a/b"}),
        ("model/x?", {"x0", "x1"}),
        (["model/x0", "a/b"], {"x0", "a/b"}),
        ("*/b", {"a/b"}),
        (["x*", "x0"], {"x[0]", "x0", "x1"}),
    ],
    ids=["itself", "pattern", "slash", "record", "list", "any record", "several"],
)
def test_keys_are_matched_by_the_rule_of_load(tmp_path: Path, keys: Any, loaded: set[str]) -> None:
    def buffers(value: float) -> Any:
        module = nn.Module()
        for name in ("x[0]", "x0", "x1", "a/b"):
            module.register_buffer(name, torch.full((2,), value))
        return module

    save_model(buffers(1), tmp_path / "m.h5")
    other = buffers(0)
    load_model(other, tmp_path / "m.h5", keys=keys)
    assert {name for name, buffer in other.named_buffers() if buffer[0]} == loaded
    assert {key for (_, key), _ in archive.load(tmp_path / "m.h5", keys=keys).drain()} == loaded


def test_what_is_no_module(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="is a module, not OrderedDict; save_state"):
        save_model(net().state_dict(), tmp_path / "m.h5")
    with pytest.raises(TypeError, match="is a module, not str"):
        load_model("m.h5", net())
    assert list(tmp_path.iterdir()) == []


def test_types_are_converted(tmp_path: Path) -> None:
    module = net()
    save_model(module, tmp_path / "m.h5")
    other = net(1).bfloat16()
    load_model(other, tmp_path / "m.h5", dtype=torch.bfloat16)
    assert torch.equal(other[0].weight, module[0].weight.bfloat16())
    assert other[1].num_batches_tracked.dtype == torch.int64
    with torch.device("meta"):
        meta, meta16 = net(), net().bfloat16()
    load_model(meta, tmp_path / "m.h5", dtype=torch.float64)
    assert torch.equal(meta[0].weight, module[0].weight.double())
    assert meta[1].num_batches_tracked.dtype == torch.int64
    with torch.device("meta"):
        named = net()
    load_model(named, tmp_path / "m.h5", dtype="bf16")
    assert torch.equal(named[0].weight, module[0].weight.bfloat16())
    with pytest.raises(TypeError, match="'bf61' names no element type of torch"):
        load_model(named, tmp_path / "m.h5", dtype="bf61")
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
    load_model(Large(), path)  # with which modules are imported, once
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
    assert outcome.peak_bytes < (1.1 if remote else 1.01) * 32 * MiB
    if remote:
        moved = store.nbytes()
        assert 32 * MiB < moved < 34 * MiB
        assert len(store.asked) < 12


def test_requests_of_a_server_are_not_kept_beside_the_model(
    large: tuple[Path, Any], server: S3Server
) -> None:
    path, saved = large
    key = f"{uuid.uuid4().hex}/model.h5"
    server.client.upload_file(str(path), BUCKET, key)
    url, options = f"s3://{BUCKET}/{key}", server.options()
    with archive.open(url, storage_options=options):
        module = Large()  # and the client, whose modules are imported once
    outcome = measure(lambda: load_model(module, url, storage_options=options))
    assert outcome.error is None
    assert same(saved, module)
    assert outcome.peak_bytes < 1.1 * 32 * MiB


def test_metrics_beside(tmp_path: Path) -> None:
    loss = torch.tensor(0.5, requires_grad=True)
    given = {"loss": loss, "n": np.int64(3), "each": [np.float32(0.25), torch.tensor(1.0)]}
    save_model(net(), tmp_path / "m.h5", metrics=given, configs={"on": np.bool_(True)})
    records = archive.load(tmp_path / "m.h5")
    assert records.metric_records["metrics"] == {"loss": 0.5, "n": 3, "each": [0.25, 1.0]}
    assert records.config_records["configs"]["on"] is True
    with pytest.raises(TypeError, match=r"'configs/b': .*give each mapping as a record"):
        save_model(net(), tmp_path / "m.h5", configs={"a": 1, "b": {"c": 2}})


class Shared(nn.Module):
    """A parameter whose memory a buffer shares, as a frozen copy or a mask may."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(3))
        self.register_buffer("b", self.w.data)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_buffer_over_a_parameter_stays_a_buffer(tmp_path: Path, device: str) -> None:
    saved = Shared()
    save_model(saved, tmp_path / "m.h5")
    with torch.device(device):
        module = Shared()
    load_model(module, tmp_path / "m.h5")
    assert same(saved, module)
    assert type(module.b) is torch.Tensor
    assert module.b.data_ptr() == module.w.data_ptr()
    other = nn.Module()
    other.w, other.b = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3), requires_grad=False)
    load_model(other, tmp_path / "m.h5")
    assert other.b is other.w


def test_two_parameters_over_one_memory_stay_two(tmp_path: Path) -> None:
    def make() -> tuple[Any, Any]:
        module = nn.Module()
        module.w = nn.Parameter(torch.randn(3))
        module.v = nn.Parameter(module.w.data)
        return module, torch.optim.SGD(module.parameters())

    saved, optimizer = make()
    save_model(saved, tmp_path / "m.h5", optimizer=optimizer)
    module, optimizer = make()
    kept = module.v
    load_model(module, tmp_path / "m.h5", optimizer=optimizer)
    assert module.v is kept
    assert same(saved, module)


def test_extra_state_may_be_a_tensor_on_one_side(tmp_path: Path) -> None:
    class Extra(nn.Linear):
        state: Any = None

        def get_extra_state(self) -> Any:
            return self.state

        def set_extra_state(self, state: Any) -> None:
            self.state = state

    saved = Extra(2, 2)
    saved.state = torch.ones(2)
    save_model(saved, tmp_path / "m.h5")
    for device in ("cpu", "meta"):
        module = Extra(2, 2, device=device)
        load_model(module, tmp_path / "m.h5")
        assert torch.equal(module.state, saved.state)
        assert torch.equal(module.weight, saved.weight)


@pytest.mark.parametrize("kind", ["sparse_coo", "quantised"])
def test_another_layout_is_a_difference(tmp_path: Path, kind: str) -> None:
    dense = torch.eye(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls quantised tensors deprecated
        given = (
            dense.to_sparse() if kind == "sparse_coo" else torch.quantize_per_tensor(dense, 1, 0, torch.qint8)
        )
    save_state({"model": {"bias": torch.ones(2), "weight": given}}, tmp_path / "s.h5")
    module = nn.Linear(2, 2)
    before = copy.deepcopy(module)
    with pytest.raises(ModelMismatchError, match=f"weight: saved as {kind}, the module has strided"):
        load_model(module, tmp_path / "s.h5", strict=False)
    assert same(before, module)


def scheduled(lrs: int) -> tuple[Any, Any, Any, Any]:
    module, (optimizer,) = trained()
    parts = [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5 + n / 10) for n in range(lrs)]
    chain = torch.optim.lr_scheduler.SequentialLR(optimizer, parts, list(range(2, lrs + 1)))
    return module, optimizer, chain, torch.amp.GradScaler("cpu", init_scale=512.0)


def test_nothing_changes_where_a_scheduler_or_a_scaler_refuses(tmp_path: Path) -> None:
    module, optimizer, scheduler, scaler = scheduled(3)
    save_model(module, tmp_path / "m.h5", optimizer=optimizer, scheduler=scheduler)
    off = torch.amp.GradScaler("cpu", enabled=False)
    save_model(module, tmp_path / "off.h5", optimizer=optimizer, scheduler=scheduler, scaler=off)
    for name, lrs, given in (("m.h5", 2, {}), ("off.h5", 3, {"scaler": scaler})):
        other, optimizer, scheduler, _ = scheduled(lrs)
        with torch.no_grad():
            other[0].weight.zero_()
        optimizer.step()
        scheduler.step()
        parts = (optimizer, scheduler, *given.values())
        states = [copy.deepcopy(part.state_dict()) for part in parts]
        before = copy.deepcopy(other)
        with pytest.raises(ModelMismatchError, match="nothing was changed"):
            load_model(other, tmp_path / name, optimizer=optimizer, scheduler=scheduler, **given)
        assert same(before, other)
        for part, state in zip(parts, states, strict=True):
            assert str(part.state_dict()) == str(state)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda state: state["scheduler"].update(step=1), "scheduler: its state dict has no step"),
        (lambda state: state["scheduler"].update(optimizer={}), "has no optimizer"),
        (lambda state: state["optimizer"].pop("state"), "optimizer: KeyError"),
        (lambda state: setattr(state["model"], "_metadata", [1]), "metadata that torch does not make"),
        (lambda state: state["model"]._metadata.update({"1": {"version": "x"}}), "version 'x' of a module"),
        (lambda state: state["model"]._metadata.update({"1": 5}), "metadata that torch does not make"),
    ],
    ids=["a method", "an attribute", "no moments", "a list", "a version", "a number"],
)
def test_a_state_that_torch_does_not_make_changes_nothing(tmp_path: Path, change: Any, text: str) -> None:
    module, (optimizer,) = trained()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    state = {
        "model": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
    change(state)
    save_state(state, tmp_path / "s.h5")
    other = net(1)
    optimizer = torch.optim.Adam(other.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    before, attributes = copy.deepcopy(other), str(vars(scheduler))
    with pytest.raises(ArchiveError, match=text):
        load_model(other, tmp_path / "s.h5", optimizer=optimizer, scheduler=scheduler)
    assert same(before, other)
    assert str(vars(scheduler)) == attributes
    assert not optimizer.state


@pytest.mark.parametrize("part", [{"$": "dict"}, {"$": "dict", "items": 5}])
def test_a_mapping_without_pairs_is_hostile(tmp_path: Path, part: Any) -> None:
    values: Any = {"version": 1, "tree": json.dumps({"$": "dict", "items": [["model", part]]})}
    archive.save(archive.RecordDict({"fedarchive.state": archive.ConfigRecord(values)}), tmp_path / "s.h5")
    with pytest.raises(HostileFileError, match="invalid saved state"):
        load_model(net(), tmp_path / "s.h5")


def test_a_type_that_torch_lacks_is_hostile(tmp_path: Path) -> None:
    tree = {"$": "tensor", "at": "model/w", "view": "load"}
    values: Any = {"version": 1, "tree": json.dumps({"$": "dict", "items": [["w", tree]]})}
    arrays = archive.ArrayRecord([np.zeros(2)])
    arrays["w"] = arrays.pop("0")
    records = archive.RecordDict({"model": arrays, "fedarchive.state": archive.ConfigRecord(values)})
    archive.save(records, tmp_path / "s.h5")
    module = nn.Module()
    module.w = nn.Parameter(torch.zeros(2))
    with pytest.raises(HostileFileError, match="invalid saved state"):
        load_model(module, tmp_path / "s.h5", dtype=torch.float32)


def test_an_optimizer_of_parameters_on_meta_is_an_error(tmp_path: Path) -> None:
    """It would hold tensors that the module has no longer."""
    module, (optimizer,) = trained()
    save_model(module, tmp_path / "m.h5", optimizer=optimizer)
    with torch.device("meta"):
        other = net()
    optimizer = torch.optim.Adam(other.parameters())
    with pytest.raises(ModelMismatchError, match="load the module, then make the optimizer"):
        load_model(other, tmp_path / "m.h5", optimizer=optimizer)
    assert other[0].weight.is_meta
