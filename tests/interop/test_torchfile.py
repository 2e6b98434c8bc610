"""Files of torch.save become archives and come back, and no code of one runs."""

from __future__ import annotations

import os
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import archive
from archive.errors import HostileFileError, ValueRangeError
from archive.interop.torch import load_state, save_state
from archive.tools import convert
from tests.optional import torch as require_torch

torch = require_torch()


def require_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert (one.dtype, one.stride(), one.requires_grad) == (
            other.dtype,
            other.stride(),
            other.requires_grad,
        )
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            require_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            require_same(*pair)
    else:
        assert one == other


def training() -> dict[str, Any]:
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    return {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "rng": torch.get_rng_state(),
        "tied": [net[0].weight, net[0].weight],
        "half": torch.randn(4, 5).bfloat16().t(),
        "arguments": {"lr": 0.1, "name": "x", "betas": (0.9, 0.999), "none": None},
    }


def test_a_training_comes_back_with_its_nesting(tmp_path: Path) -> None:
    state = training()
    torch.save(state, tmp_path / "c.pt")
    there = convert(tmp_path / "c.pt", tmp_path / "c.h5")
    assert (there.lossless, there.format) == (True, "pt")
    require_same(load_state(tmp_path / "c.h5"), state)
    assert convert(tmp_path / "c.h5", tmp_path / "back.pt").lossless
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    require_same(back, state)
    assert back["tied"][0] is back["tied"][1]
    assert back["model"]._metadata == state["model"]._metadata


def test_a_state_dict_is_the_record_model_and_goes_on_to_other_formats(tmp_path: Path) -> None:
    state = OrderedDict(
        w=torch.arange(6.0).reshape(2, 3), b=torch.zeros(3).half(), q=torch.ones(2).bfloat16()
    )
    for name, options in (("new.pth", {}), ("old.bin", {"_use_new_zipfile_serialization": False})):
        torch.save(state, tmp_path / name, **options)
        convert(tmp_path / name, tmp_path / "m.h5")
        with archive.open(tmp_path / "m.h5") as handle:
            assert list(handle) == [("model", "w"), ("model", "b"), ("model", "q")]
        assert convert(tmp_path / "m.h5", tmp_path / "m.safetensors").lossless
        assert convert(tmp_path / "m.h5", tmp_path / "back.pt").lossless
        require_same(torch.load(tmp_path / "back.pt", weights_only=True), state)


def test_a_plain_archive_becomes_a_state_dict(tmp_path: Path) -> None:
    with archive.create(tmp_path / "m.h5") as writer:
        writer.add("model", "embed", np.ones((2, 3), "f4"))
        writer.tie("model", "head", ("model", "embed"))
        writer.add("model", "text", np.array(["x"]))
        writer.metrics["fit"] = {"loss": 0.5}
    report = convert(tmp_path / "m.h5", tmp_path / "m.pt")
    assert [name for name, _ in report.left_out] == ["model/text", "fit"]
    state = torch.load(tmp_path / "m.pt", weights_only=True)
    assert list(state) == ["embed", "head"]
    assert state["embed"].untyped_storage().data_ptr() == state["head"].untyped_storage().data_ptr()
    convert(tmp_path / "m.pt", tmp_path / "back.h5")
    with archive.open(tmp_path / "back.h5") as handle:
        assert handle.info.array_bytes == 24  # tied again


def test_the_nesting_is_listed_where_a_format_has_none(tmp_path: Path) -> None:
    torch.save(training(), tmp_path / "c.pt")
    convert(tmp_path / "c.pt", tmp_path / "c.h5")
    report = convert(tmp_path / "c.h5", tmp_path / "c.npz")
    assert report.left_out[0][0] == "fedarchive.state"
    report = convert(tmp_path / "c.h5", tmp_path / "model.pt", keys=["[0-9].*"])
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    require_same(dict(state), dict(load_state(tmp_path / "c.h5", keys=["model"])["model"]))


def test_views_that_come_apart_are_listed(tmp_path: Path) -> None:
    memory = torch.arange(10.0)
    torch.save({"a": memory[:5], "b": memory[3:], "c": torch.ones(1)}, tmp_path / "v.pt")
    report = convert(tmp_path / "v.pt", tmp_path / "v.h5")
    assert [name for name, _ in report.left_out] == ["a", "b"]


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("owned",)


@pytest.mark.parametrize("new", [True, False])
def test_no_code_of_a_file_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: bool) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.ones(2), "evil": Evil()}, "evil.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(HostileFileError, match="mkdir"):
        convert("evil.pt", "m.h5")
    assert os.listdir() == ["evil.pt"]


def test_bombs_and_members_that_overlap_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1000)}, tmp_path / "good.pt")
    with (
        zipfile.ZipFile(tmp_path / "good.pt") as good,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in good.infolist():
            bomb.writestr(member.filename, good.read(member))
    with pytest.raises(HostileFileError, match="compressed members"):
        convert(tmp_path / "bomb.pt", tmp_path / "m.h5")
    data = (tmp_path / "good.pt").read_bytes()
    for length in (0, 10, 3000, len(data) - 1):
        (tmp_path / "cut.pt").write_bytes(data[:length])
        with pytest.raises(HostileFileError):
            convert(tmp_path / "cut.pt", tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


def test_a_state_that_torch_would_not_load_is_refused_before_it_is_written(tmp_path: Path) -> None:
    save_state({"w": torch.ones(2), "array": np.ones(3)}, tmp_path / "m.h5")
    with pytest.raises(ValueRangeError, match=r"torch\.load refuses"):
        convert(tmp_path / "m.h5", tmp_path / "m.pt")
    assert os.listdir(tmp_path) == ["m.h5"]
    torch.save({"w": torch.ones(2, device="meta")}, tmp_path / "meta.pt")
    with pytest.raises(ValueRangeError):
        convert(tmp_path / "meta.pt", tmp_path / "n.h5")


def test_checkpoints_may_be_objects(tmp_path: Path) -> None:
    state = training()
    torch.save(state, tmp_path / "c.pt")
    convert(tmp_path / "c.pt", "memory://torchfile/c.h5")
    convert("memory://torchfile/c.h5", "memory://torchfile/c.pt")
    convert("memory://torchfile/c.pt", tmp_path / "back.h5")
    require_same(load_state(tmp_path / "back.h5"), state)
