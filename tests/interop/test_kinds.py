"""The kinds of state that people hand to torch.save, a case each: identical after save_state, or refused."""

from __future__ import annotations

import enum
import json
import random
import subprocess
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import archive
from archive.errors import HostileFileError, UnsupportedDtypeError, ValueRangeError

torch = pytest.importorskip("torch")
from archive.interop.torch import load_state, save_state  # noqa: E402 needs torch

nn: Any = torch.nn


class Phase(enum.Enum):
    TRAIN = "train"
    TEST = "test"


class Best(NamedTuple):
    epoch: int
    weights: Any
    phase: Phase


def bits(tensor: Any) -> bytes:
    """Return the elements of a strided tensor as bytes, in C order."""
    plain = tensor.detach().resolve_conj().resolve_neg()
    plain = (
        torch.empty(plain.shape, dtype=plain.dtype).copy_(plain) if plain.dtype != torch.complex32 else plain
    )
    if plain.dtype == torch.complex32:
        plain = torch.view_as_real(plain).contiguous()
    return bytes(plain.reshape(-1).view(torch.uint8).numpy()) if plain.numel() else b""


def parts_of(tensor: Any) -> list[Any]:
    """Return the strided tensors that make up a sparse or quantised one."""
    if tensor.is_quantized:
        return [tensor.int_repr()]
    if tensor.layout == torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout == torch.sparse_csr:
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    return []


def assert_identical(left: Any, right: Any) -> None:
    """Compare two states by class, order of keys, type, strides and bit."""
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert (left.dtype, left.shape, left.layout) == (right.dtype, right.shape, right.layout)
        assert left.requires_grad == right.requires_grad
        assert left.is_quantized == right.is_quantized
        inner = parts_of(left)
        for one, other in zip(inner, parts_of(right), strict=True):
            assert_identical(one, other)
        if left.is_quantized:
            assert torch.equal(left.dequantize(), right.dequantize())
        elif not inner:
            assert left.stride() == right.stride()
            assert bits(left) == bits(right)
    elif isinstance(left, np.ndarray):
        assert (left.dtype, left.shape, left.strides) == (right.dtype, right.shape, right.strides)
        assert left.tobytes() == right.tobytes()
    elif isinstance(left, dict):
        assert [(type(key), key) for key in left] == [(type(key), key) for key in right]
        for one, other in zip(left.values(), right.values(), strict=True):
            assert_identical(one, other)
        assert hasattr(left, "_metadata") == hasattr(right, "_metadata")
        if hasattr(left, "_metadata"):
            assert_identical(left._metadata, right._metadata)
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_identical(one, other)
    else:
        assert left == right


def net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def trained() -> tuple[Any, Any]:
    made = net()
    optimizer = torch.optim.AdamW(made.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        made(torch.ones(3, 4) * torch.arange(3)[:, None]).square().sum().backward()
        optimizer.step()
    return made, optimizer


def gpt() -> Any:
    """The state dict of a language model whose head is its embedding."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln = nn.LayerNorm(16)
            self.attn = nn.MultiheadAttention(16, 2)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte = nn.Embedding(50, 16)
            self.h = nn.ModuleList(Block() for _ in range(2))
            self.head = nn.Linear(16, 50, bias=False)
            self.head.weight = self.wte.weight

    return Model().state_dict()


def every_type() -> Any:
    names = (
        *("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16"),
        *("float32", "float64", "complex64", "complex128"),
    )
    return {name: torch.tensor([0, 1, 1]).to(getattr(torch, name)) for name in names}


def channels_last() -> Any:
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1))
    return made.to(memory_format=torch.channels_last).state_dict()


def optimizer_state() -> Any:
    return trained()[1].state_dict()


def averaged() -> Any:
    model = torch.optim.swa_utils.AveragedModel(net())
    model.update_parameters(net())
    return model.state_dict()


def mixed_dict() -> Any:
    made, optimizer = trained()
    return {
        "model": made.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 80,
        "rng": torch.get_rng_state(),
    }


def hf_rng() -> Any:
    """What Trainer writes as rng_state.pth."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 theirs
        "cpu": torch.random.get_rng_state(),
    }


def fp8() -> Any:
    names = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
    return {name: torch.tensor([0.5, -2.0, 448.0]).to(getattr(torch, name)) for name in names}


def lora() -> Any:
    return {f"base.{n}.lora_{side}.default.weight": torch.randn(2, 4) for n in range(2) for side in "AB"}


def quantised() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls them deprecated
        channels = torch.quantize_per_channel(
            torch.randn(2, 3), torch.tensor([0.1, 0.2]).double(), torch.tensor([0, 3]), 0, torch.qint8
        )
        return {
            "tensor": torch.quantize_per_tensor(torch.randn(4), 0.1, 3, torch.quint8),
            "channel": channels,
        }


def views() -> Any:
    whole = torch.arange(12.0)
    return {"a": whole[:4], "b": whole[4:].view(2, 4), "c": whole[2:6]}


SAME: dict[str, Callable[[], Any]] = {
    "state dict of a GPT with a tied embedding": gpt,
    "LoRA adapters": lora,
    "0-d counters": lambda: {"n": torch.tensor(5), "m": torch.tensor(True)},
    "all types": every_type,
    "uint16, 32, 64": lambda: {
        name: torch.tensor([1, 2]).to(getattr(torch, name)) for name in ("uint16", "uint32", "uint64")
    },
    "four fp8": fp8,
    "e8m0": lambda: {"s": torch.tensor([1, 127], dtype=torch.uint8).view(torch.float8_e8m0fnu)},
    "packed uint4 with bf16 scales": lambda: {
        "w": torch.tensor([[0x12, 0xF0]], dtype=torch.uint8),
        "scales": torch.randn(1, 2).bfloat16(),
    },
    "transposed": lambda: {"w": torch.randn(3, 5).t()},
    "views of one storage": views,
    "conj and neg bits": lambda: {
        "c": torch.tensor([1 + 2j, 3j]).conj(),
        "n": torch.tensor([1 + 2j]).conj().imag,
    },
    "NaN, inf, -0.0": lambda: {"x": torch.tensor([float("nan"), float("inf"), -0.0])},
    "dotted, slashed, unicode, empty keys": lambda: {
        "a.b": torch.ones(1),
        "a/b": torch.zeros(1),
        "ü☃": torch.ones(2),
        "": torch.ones(3),
        ".": torch.ones(4),
        "%": torch.ones(5),
        "a": {"b": torch.ones(6), ".": {"": torch.ones(7)}},
    },
    "a list": lambda: [torch.ones(2), torch.zeros(3)],
    "a tuple": lambda: (torch.ones(2), torch.zeros(3)),
    "a parameter without grad": lambda: {"p": nn.Parameter(torch.ones(2), requires_grad=False)},
    "no elements": lambda: {"e": torch.empty(0), "f": torch.empty(0, 3)},
    "large": lambda: {"w": torch.arange(300_000.0).view(300, 1000)},
    "bytes and texts": lambda: {"b": b"\0\xff" * 500, "t": "ü" * 300, "w": torch.ones(1)},
    "channels_last": channels_last,
    "one channel, channels_last": lambda: {"w": torch.ones(4, 1, 3, 3).to(memory_format=torch.channels_last)},
    "expanded": lambda: {"w": torch.ones(1).expand(1024, 1024), "v": torch.arange(3.0)[:, None].expand(3, 2)},
    "strides of (0, 3)": lambda: {
        "w": torch.empty(0, 3),
        "v": torch.empty(3, 0).t(),
        "u": torch.empty(2, 0, 3),
    },
    "named parameters": lambda: dict(net().named_parameters()),
    "state dict of an optimizer": optimizer_state,
    "AveragedModel": averaged,
    "model, optimizer, epoch, rng": mixed_dict,
    "nested tensors only": lambda: {"a": {"b": {"c": torch.ones(2)}}, "d": {"e": torch.zeros(1)}},
    "nested with an int": lambda: {"a": {"b": torch.ones(2), "n": 3}},
    "HF's states of generators": hf_rng,
    "int keys": lambda: {0: torch.ones(1), 1: {2: torch.zeros(2)}, "0": torch.ones(3)},
    "None beside tensors": lambda: {"w": torch.ones(1), "none": None},
    "a scalar beside tensors": lambda: {"w": torch.ones(1), "lr": 0.1, "ok": True, "c": 1j},
    "numpy, tensor and list": lambda: {"n": np.arange(3.0), "t": torch.ones(2), "l": [1, 2.5, "x"]},
    "a single tensor": lambda: torch.arange(5),
    "_metadata": lambda: net().state_dict(),
    "complex32": lambda: {"w": torch.view_as_complex(torch.randn(3, 2).half()), "r": torch.ones(1)},
    "fp4 x2": lambda: {"w": torch.tensor([[1, 255]], dtype=torch.uint8).view(torch.float4_e2m1fn_x2)},
    "quantised": quantised,
    "sparse COO": lambda: {
        "c": torch.eye(3).to_sparse(),
        "u": torch.sparse_coo_tensor([[0, 0]], [1.0, 2.0], (2,)),
        "g": torch.eye(2).to_sparse().requires_grad_(True),
    },
    "sparse CSR": lambda: {"w": torch.eye(3).to_sparse_csr()},
    "a sparse parameter": lambda: {"p": nn.Parameter(torch.eye(3).to_sparse())},
    "a quantised parameter": lambda: {"p": nn.Parameter(quantised()["tensor"], requires_grad=False)},
    "paths, times and classes": lambda: {
        "folder": Path("runs/a"),
        "at": datetime(2024, 5, 1, 2, 3, tzinfo=timezone.utc),
        "best": Best(3, torch.ones(2), Phase.TRAIN),
        Phase.TEST: [Best(1, None, Phase.TEST), np.dtype("f4"), range(3)],
    },
    "complex32, transposed": lambda: {
        "t": torch.view_as_complex(torch.randn(3, 4, 2).half()).t(),
        "p": torch.view_as_complex(torch.randn(2, 1, 3, 2).half()).permute(2, 1, 0),
    },
}


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", SAME)
def test_comes_back_identical(tmp_path: Path, name: str) -> None:
    state = SAME[name]()
    save_state(state, tmp_path / "state.h5", durable=False)
    assert archive.open(tmp_path / "state.h5").verify().ok
    assert_identical(state, load_state(tmp_path / "state.h5"))


class Tagged(torch.Tensor):  # type: ignore[name-defined]
    """A subclass as people write them."""


def sharded() -> Any:
    distributed = torch.distributed
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    try:
        tensor = pytest.importorskip("torch.distributed.tensor")
        mesh = pytest.importorskip("torch.distributed.device_mesh").init_device_mesh("cpu", (1,))
        return tensor.distribute_tensor(torch.ones(2), mesh)
    finally:
        distributed.destroy_process_group()


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a module": (lambda: {"model": net()}, r"save its state_dict\(\)"),
    "meta": (lambda: {"w": torch.empty(2, device="meta")}, "load or initialise it first"),
    "a subclass": (lambda: {"w": torch.ones(2).as_subclass(Tagged)}, "convert it into a plain tensor first"),
    "nested": (
        lambda: {"w": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])},
        r"save the tensors of unbind\(\)",
    ),
    "jagged": (
        lambda: {"w": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged)},
        r"save the tensors of unbind\(\)",
    ),
    "uninitialised": (lambda: nn.LazyLinear(2).state_dict(), "run the module once"),
    "DTensor": (lambda: {"w": sharded()}, r"full_tensor\(\)"),
    "a quantised subclass": (
        lambda: {"w": quantised()["tensor"].as_subclass(Tagged)},
        r"save int_repr\(\)",
    ),
    "a large int": (lambda: {"w": 10**5000}, r"save its to_bytes\(\)"),
    "a function": (lambda: {"model": {"w": torch.ones(1)}, "fn": print}, "leave it out of the state"),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_a_way_out(tmp_path: Path, name: str) -> None:
    make, remedy = REFUSED[name]
    with pytest.raises(ValueRangeError, match=remedy) as caught:
        save_state(make(), tmp_path / "state.h5")
    assert caught.value.key in ("model", "w", "fn", "weight")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")  # of their own code
def test_lightning_checkpoint(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")

    class Module(lightning.LightningModule):  # type: ignore[name-defined]
        def __init__(self, width: int = 4) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Linear(width, 1)

        def training_step(self, batch: Any, _: int) -> Any:
            loss = self.net(batch).square().mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters())
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    callback = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, monitor="loss", save_last=True)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, callbacks=[callback], enable_progress_bar=False
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(torch.randn(8, 4), batch_size=4))
    state = torch.load(tmp_path / "last.ckpt", weights_only=False)
    save_state(state, tmp_path / "state.h5")
    assert_identical(state, load_state(tmp_path / "state.h5"))


@pytest.mark.filterwarnings("ignore")  # of their own code
def test_trainer_checkpoint(tmp_path: Path) -> None:
    """Everything that HF's Trainer writes beside the weights."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=50, n_positions=16)
    model = transformers.GPT2LMHeadModel(config)
    rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8)} for _ in range(4)]
    arguments = transformers.TrainingArguments(
        str(tmp_path / "out"), max_steps=2, save_steps=2, report_to=[], use_cpu=True, disable_tqdm=True
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
    folder = tmp_path / "out" / "checkpoint-2"
    found = {
        name: torch.load(folder / name, weights_only=False)
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth")
    }
    state = {"model": model.state_dict(), **found}
    save_state(state, tmp_path / "state.h5")
    assert_identical(state, load_state(tmp_path / "state.h5"))


def memories(state: Any) -> list[int]:
    """Return the addresses of tensors."""
    return [tensor.data_ptr() for tensor in state]


def test_aliases_stay_aliases(tmp_path: Path) -> None:
    tied, lone = torch.randn(3, 3), nn.Parameter(torch.ones(2))
    array = np.arange(3.0)
    state = {
        "a": {"w": tied, "v": tied.detach(), "t": tied.t(), "p": lone, "d": lone.data},
        "b": [tied, lone, array, array],
    }
    report = save_state(state, tmp_path / "state.h5")
    assert report.array_bytes == 2 * 36 + 8 + 24  # the transposed view is a copy
    found = load_state(tmp_path / "state.h5")
    assert found["a"]["w"] is found["b"][0]
    assert found["a"]["p"] is found["b"][1]
    assert found["b"][2] is found["b"][3]
    assert found["a"]["v"] is not found["a"]["w"]
    assert len(set(memories([found["a"]["w"], found["a"]["v"]]))) == 1
    assert len(set(memories([found["a"]["p"], found["a"]["d"]]))) == 1
    assert type(found["a"]["d"]) is torch.Tensor
    meta = load_state(tmp_path / "state.h5", map_location="meta")
    assert meta["a"]["w"] is meta["b"][0]
    assert meta["a"]["w"].is_meta
    assert meta["a"]["t"].stride() == (1, 3)
    records = archive.load(tmp_path / "state.h5").array_records
    tensors = records["a"].to_torch_state_dict()
    assert len(set(memories([tensors["w"], tensors["v"]]))) == 1


def test_parts_are_loaded_alone(tmp_path: Path) -> None:
    moments = {"state": {0: {"m": torch.ones(1)}}}
    state = {"model": {"w": torch.ones(2), "v": torch.zeros(2)}, "optimizer": moments, 5: 6}
    save_state(state, tmp_path / "state.h5")
    found = load_state(tmp_path / "state.h5", keys=[("model", "w"), ("optimizer", "state", 0), 5])
    assert_identical(found, {"model": {"w": torch.ones(2)}, "optimizer": moments, 5: 6})
    for keys in (["nothing"], [("model", "x")], [("model", "w", "deep")]):
        with pytest.raises(KeyError, match="in the state"):
            load_state(tmp_path / "state.h5", keys=keys)
    with pytest.raises(TypeError, match="not one key"):
        load_state(tmp_path / "state.h5", keys="model")


def test_parts_beside_keys_of_other_types(tmp_path: Path) -> None:
    save_state({(1, 2): torch.ones(1), 0.5: 1, None: 2, "a": torch.zeros(1)}, tmp_path / "state.h5")
    assert_identical(load_state(tmp_path / "state.h5", keys=["a"]), {"a": torch.zeros(1)})


@pytest.mark.parametrize("kind", ["dict", "list", "tuple"])
def test_what_is_saved_can_be_loaded_however_deep(tmp_path: Path, kind: str) -> None:
    wrap: dict[str, Callable[[Any], Any]] = {
        "dict": lambda inner: {"a": inner},
        "list": lambda inner: [inner],
        "tuple": lambda inner: (inner,),
    }
    state: Any = torch.ones(1)
    for _ in range(100):
        state = wrap[kind](state)
    save_state(state, tmp_path / "state.h5")
    assert_identical(state, load_state(tmp_path / "state.h5"))
    for _ in range(200):
        state = wrap[kind](state)
        with pytest.raises(ValueRangeError, match="nested more than 100 deep"):
            save_state(state, tmp_path / "deep.h5")


def test_strides_of_any_view_without_gaps(tmp_path: Path) -> None:
    rng = random.Random(1)
    state = []
    for _ in range(300):
        shape = [rng.choice([1, 1, 2, 3]) for _ in range(rng.randint(1, 4))]
        axes = list(range(len(shape)))
        rng.shuffle(axes)
        view = torch.arange(float(np.prod(shape))).view(shape).unsqueeze(rng.choice(axes)).squeeze(0)
        state += [view, view.permute(rng.sample(range(view.ndim), view.ndim))]
    state.append(torch.arange(9.0).as_strided((1, 3, 3, 1), (9, 1, 3, 9)))
    state.append(torch.arange(9.0).as_strided((3, 3, 1), (1, 3, 3)))
    save_state(state, tmp_path / "state.h5")
    found = load_state(tmp_path / "state.h5")
    assert_identical(state, found)
    meta = load_state(tmp_path / "state.h5", map_location="meta")
    assert [tensor.stride() for tensor in meta] == [tensor.stride() for tensor in state]


def test_arrays_beside_tensors_on_meta_are_writable(tmp_path: Path) -> None:
    state = {"n": np.arange(4.0), "t": np.ones((2, 3)).T, "w": torch.ones(2), "g": torch.Generator()}
    save_state(state, tmp_path / "state.h5")
    found = load_state(tmp_path / "state.h5", map_location="meta")
    found["n"][0] = found["t"][0, 0] = 5
    assert found["w"].is_meta
    assert load_state(tmp_path / "state.h5")["n"][0] == 0


def saved_tree(path: Path, change: Callable[[Any], None]) -> None:
    """Save the records of a state again, with a changed tree."""
    records = archive.load(path)
    values: Any = records.config_records["fedarchive.state"]
    tree = json.loads(values["tree"])
    change(tree)
    values["tree"] = json.dumps(tree)
    archive.save(records, path)


def test_an_array_is_copied_for_one_value_only(tmp_path: Path) -> None:
    """A small tree would otherwise make many copies of a large array."""
    save_state({"a": np.ones((2, 3)).T}, tmp_path / "state.h5")
    saved_tree(tmp_path / "state.h5", lambda tree: tree["items"].append(["b", tree["items"][0][1]]))
    with pytest.raises(HostileFileError, match="two values at 'model/a'"):
        load_state(tmp_path / "state.h5")


@pytest.mark.slow
def test_a_tree_imports_nothing_by_name(tmp_path: Path) -> None:
    save_state({"a": torch.float32}, tmp_path / "state.h5")
    saved_tree(tmp_path / "state.h5", lambda tree: tree["items"][0][1].update(name="_inductor"))
    command = (
        "import sys, archive.interop.torch as t\nfrom archive.errors import HostileFileError\n"
        f"try: t.load_state({str(tmp_path / 'state.h5')!r})\n"
        "except HostileFileError: print('torch._inductor' in sys.modules)"
    )
    given = [sys.executable, "-c", "import torch\n" + command]
    done = subprocess.run(given, check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_some_arrays_of_a_state_are_records_without_its_tree(tmp_path: Path) -> None:
    """The tree of a whole state, saved again beside some of its arrays, made a file that nobody loads."""
    state = {"model": {"w": torch.ones(2), "v": torch.zeros(2)}, "epoch": 3}
    save_state(state, tmp_path / "state.h5")
    for keys in ("*/w", [("model", "w")]):
        archive.save(archive.load(tmp_path / "state.h5", keys=keys), tmp_path / "part.h5")
        assert_identical(load_state(tmp_path / "part.h5"), {"model": OrderedDict(w=torch.ones(2))})
    archive.save(archive.load(tmp_path / "state.h5", keys="*"), tmp_path / "all.h5")
    assert_identical(load_state(tmp_path / "all.h5"), state)


def test_an_archive_without_a_tree_is_a_dict_of_its_records(tmp_path: Path) -> None:
    arrays = {"w": np.ones(2, "f4"), "t": np.array(["a", "bc"])}
    archive.save(arrays, tmp_path / "plain.h5", name="net")
    found = load_state(tmp_path / "plain.h5")
    assert torch.equal(found["net"]["w"], torch.ones(2))
    assert found["net"]["t"].tolist() == ["a", "bc"]


def test_a_dict_of_unsupported_tensors_still_says_what_to_save(tmp_path: Path) -> None:
    """`archive.save` keeps no tree: it has no place for what makes a sparse tensor again."""
    with pytest.raises(UnsupportedDtypeError, match="to_dense"):
        archive.save({"w": torch.eye(2).to_sparse()}, tmp_path / "x.h5")
