"""save_model and load_model: training goes on bit for bit, ties stay ties, nothing is pickled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import archive
from archive.errors import ArchiveError, ClosedError, DigestError, HostileFileError, ValueRangeError

torch = pytest.importorskip("torch")
from archive.interop.torch import (  # noqa: E402 needs torch
    ModelMismatchError,
    load_model,
    load_state,
    save_model,
    save_state,
)

nn: Any = torch.nn
optim, schedulers = torch.optim, torch.optim.lr_scheduler


def make_net(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda parameters: optim.SGD(parameters, lr=0.02, momentum=0.9, nesterov=True),
    "adam": lambda parameters: optim.Adam(parameters, lr=0.01, amsgrad=True),
    "adamw": lambda parameters: optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
}
SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "step": lambda optimizer: schedulers.StepLR(optimizer, 3, 0.5),
    "cosine": lambda optimizer: schedulers.CosineAnnealingLR(optimizer, 10),
    "onecycle": lambda optimizer: schedulers.OneCycleLR(optimizer, max_lr=0.05, total_steps=20),
    "multistep": lambda optimizer: schedulers.MultiStepLR(optimizer, [2, 5, 5, 9]),
    "sequential": lambda optimizer: schedulers.SequentialLR(
        optimizer,
        [schedulers.LinearLR(optimizer, total_iters=4), schedulers.ExponentialLR(optimizer, 0.9)],
        milestones=[4],
    ),
}


def train(net: Any, optimizer: Any, scheduler: Any, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(5, 6, generator=generator).to(next(net.parameters()).dtype)
        optimizer.zero_grad()
        (net(x) - x[:, :3]).square().mean().backward()
        optimizer.step()
        scheduler.step()


def make_training(optimizer: str, scheduler: str, seed: int = 0, dtype: Any = None) -> tuple[Any, Any, Any]:
    net = make_net(seed).to(dtype or torch.float32)
    made = OPTIMIZERS[optimizer](net.parameters())
    return net, made, SCHEDULERS[scheduler](made)


def assert_same(left: Any, right: Any) -> None:
    """Compare two states by type and bit."""
    assert type(left) is type(right)
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype
        assert torch.equal(left, right)
        assert left.isfinite().all()
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    else:
        assert left == right


def tree_of(key: str, part: str) -> str:
    """Return the tree of a state whose model has one value."""
    return f'{{"$": "dict", "items": [["model", {{"$": "dict", "items": [["{key}", {part}]]}}]]}}'


CASES = [
    *(
        (optimizer, scheduler, torch.float32)
        for optimizer in OPTIMIZERS
        for scheduler in list(SCHEDULERS)[:3]
    ),
    ("adam", "multistep", torch.float32),
    ("sgd", "sequential", torch.float32),
    ("adamw", "onecycle", torch.bfloat16),
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("optimizer", "scheduler", "dtype"),
    [CASES[0], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[1:])],
)
def test_training_goes_on_bit_for_bit(tmp_path: Path, optimizer: str, scheduler: str, dtype: Any) -> None:
    whole = make_training(optimizer, scheduler, dtype=dtype)
    train(*whole, range(14))
    first = make_training(optimizer, scheduler, dtype=dtype)
    train(*first, range(6))
    save_model(first[0], tmp_path / "m.h5", optimizer=first[1], scheduler=first[2], durable=False)
    second = make_training(optimizer, scheduler, seed=99, dtype=dtype)
    load_model(second[0], tmp_path / "m.h5", optimizer=second[1], scheduler=second[2])
    for mine, theirs in zip(first, second, strict=True):
        assert_same(mine.state_dict(), theirs.state_dict())
    train(*second, range(6, 14))
    for mine, theirs in zip(whole, second, strict=True):
        assert_same(mine.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_moments_keep_their_order_in_memory(tmp_path: Path, name: str) -> None:
    """Fused steps take it to be that of the parameter; of another they make another training."""

    def make() -> tuple[Any, Any]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
        net = net.to(memory_format=torch.channels_last)
        kinds = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}
        options = {"momentum": 0.9} if name == "sgd" else {}
        return net, kinds[name](net.parameters(), lr=0.01, fused=True, **options)

    def step(net: Any, optimizer: Any, seed: int) -> None:
        x = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    first, second = make(), make()
    for seed in range(3):
        step(*first, seed)
    save_model(first[0], tmp_path / "m.h5", optimizer=first[1])
    load_model(second[0], tmp_path / "m.h5", optimizer=second[1])
    for one, other in zip(first[1].state.values(), second[1].state.values(), strict=True):
        assert {key: value.stride() for key, value in one.items()} == {
            key: value.stride() for key, value in other.items()
        }
    for seed in range(3, 6):
        step(*first, seed)
        step(*second, seed)
    assert_same(dict(first[0].state_dict()), dict(second[0].state_dict()))


def test_other_tools_see_the_tensors(tmp_path: Path) -> None:
    net, optimizer, scheduler = make_training("adam", "step")
    train(net, optimizer, scheduler, range(2))
    save_model(net, tmp_path / "m.h5", optimizer=optimizer, metrics={"loss": 0.5})
    with h5py.File(tmp_path / "m.h5") as file:
        assert np.array_equal(file["arrays/model/0.weight"], net[0].weight.detach().numpy())
        assert file["arrays/model/1.num_batches_tracked"][()] == 2
        moment = file["arrays/optimizer/state.0.exp_avg"]
        assert np.array_equal(moment, optimizer.state[net[0].weight]["exp_avg"].numpy())
    assert archive.table(tmp_path / "m.h5")["loss"].tolist() == [0.5]


class Tied(nn.Module):
    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.head = nn.Linear(16, 50, bias=False)
        if tied:
            self.head.weight = self.embed.weight


def test_tied_tensors_are_stored_once_and_tied_again(tmp_path: Path) -> None:
    report = save_model(Tied(True), tmp_path / "tied.h5")
    assert report.arrays == 2
    assert report.array_bytes == 50 * 16 * 4
    for tied in (True, False):
        net = Tied(tied)
        load_model(net, tmp_path / "tied.h5")
        assert net.head.weight is net.embed.weight


def test_ties_that_an_optimizer_does_not_know_are_an_error(tmp_path: Path) -> None:
    net = Tied(True)
    save_model(net, tmp_path / "tied.h5", optimizer=optim.SGD(net.parameters(), 0.1))
    apart = Tied(False)
    before = apart.embed.weight.clone()
    with pytest.raises(ModelMismatchError, match=r"embed\.weight and head\.weight were tied"):
        load_model(apart, tmp_path / "tied.h5", optimizer=optim.SGD(apart.parameters(), 0.1))
    assert torch.equal(before, apart.embed.weight)


def test_a_tied_module_does_not_take_two_tensors(tmp_path: Path) -> None:
    save_model(Tied(False), tmp_path / "apart.h5")
    with pytest.raises(ModelMismatchError, match="are tied in the module, and differ"):
        load_model(Tied(True), tmp_path / "apart.h5")


def test_strict_lists_every_difference_and_changes_nothing(tmp_path: Path) -> None:
    save_model(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3)), tmp_path / "m.h5")
    net = nn.ModuleDict({"0": nn.Linear(2, 2, dtype=torch.float64), "1": nn.Linear(2, 4, bias=False)})
    net["new"] = nn.Linear(1, 1, bias=False)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(ModelMismatchError) as caught:
        load_model(net, tmp_path / "m.h5")
    for text in (
        "missing in the archive: new.weight",
        "missing in the module: 1.bias",
        "1.weight: saved with shape (3, 2), the module has (4, 2)",
        "0.weight: loaded as float32, the module has float64",
        "give the element type of the module as dtype=",
    ):
        assert text in str(caught.value)
    assert isinstance(caught.value, RuntimeError)
    assert_same(before, dict(net.state_dict()))


def test_not_strict_tells_what_it_let_pass(tmp_path: Path) -> None:
    saved = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    save_model(saved, tmp_path / "m.h5")
    net = nn.ModuleDict({"0": nn.Linear(2, 2, dtype=torch.float64), "new": nn.Linear(1, 1, bias=False)})
    report = load_model(net, tmp_path / "m.h5", strict=False)
    assert report.missing_keys == ["new.weight"]
    assert report.unexpected_keys == ["1.weight", "1.bias"]
    assert torch.equal(net["0"].weight, saved[0].weight.double())


def test_another_optimizer_is_an_error(tmp_path: Path) -> None:
    net, adam, scheduler = make_training("adam", "step")
    save_model(net, tmp_path / "m.h5", optimizer=adam)
    with pytest.raises(ModelMismatchError, match=r"saved torch\.optim\.adam\.Adam"):
        load_model(net, tmp_path / "m.h5", optimizer=OPTIMIZERS["sgd"](net.parameters()))
    with pytest.raises(ModelMismatchError, match=r"groups of \[6\] parameters, has \[2\]"):
        load_model(net, tmp_path / "m.h5", optimizer=OPTIMIZERS["adam"](net[0].parameters()))
    with pytest.raises(ModelMismatchError, match="no scheduler was saved"):
        load_model(net, tmp_path / "m.h5", optimizer=adam, scheduler=scheduler)


def test_what_would_need_a_pickle_is_named(tmp_path: Path) -> None:
    class Gain:
        def __init__(self) -> None:
            self.hook = print

        def __call__(self, epoch: int) -> float:
            return 0.5

    net = make_net()
    optimizer = OPTIMIZERS["sgd"](net.parameters())
    scheduler = schedulers.LambdaLR(optimizer, Gain())
    with pytest.raises(ValueRangeError, match=r"scheduler/lr_lambdas/0/hook.*nothing is pickled"):
        save_model(net, tmp_path / "m.h5", optimizer=optimizer, scheduler=scheduler)
    assert list(tmp_path.iterdir()) == []


def test_extra_state_of_modules(tmp_path: Path) -> None:
    class Scaled(nn.Linear):
        scale: Any = None

        def get_extra_state(self) -> Any:
            return {"scale": self.scale, "window": (1, float("nan"))}

        def set_extra_state(self, state: Any) -> None:
            self.scale = state["scale"]

    net = Scaled(2, 2)
    net.scale = torch.tensor([1.5, -0.0], dtype=torch.bfloat16)
    save_model(net, tmp_path / "m.h5")
    other = Scaled(2, 2)
    load_model(other, tmp_path / "m.h5")
    assert_same(net.scale, other.scale)


def test_a_module_without_memory_gets_that_of_the_archive(tmp_path: Path) -> None:
    saved = Tied(True)
    save_model(saved, tmp_path / "m.h5")
    with torch.device("meta"):
        net = Tied(True)
    load_model(net, tmp_path / "m.h5")
    assert torch.equal(net.head.weight, saved.head.weight)
    assert net.head.weight is net.embed.weight
    assert net.head.weight.requires_grad


def test_any_archive_of_a_state_dict_will_do(tmp_path: Path) -> None:
    saved = make_net(1)
    own = {"version": torch.__version__, "extra": "notes"}
    archive.save(saved.state_dict(), tmp_path / "plain.h5", name="net", configs={"torch": own})
    net = make_net(2)
    load_model(net, tmp_path / "plain.h5")
    assert_same(dict(saved.state_dict()), dict(net.state_dict()))


def test_a_conjugate_is_not_tied(tmp_path: Path) -> None:
    """x and x.conj() are one memory, but not the same values."""
    value = torch.tensor([1 + 2j])
    saved, loaded = nn.Module(), nn.Module()
    for net, x, y in ((saved, value, value.conj()), (loaded, value * 0, value * 0)):
        net.register_buffer("x", x)
        net.register_buffer("y", y)
    save_model(saved, tmp_path / "m.h5")
    load_model(loaded, tmp_path / "m.h5")
    assert (loaded.x.item(), loaded.y.item()) == (1 + 2j, 1 - 2j)


def test_a_tensor_that_is_not_saved_is_named(tmp_path: Path) -> None:
    net = nn.Module()
    net.register_buffer("mask", torch.empty(2, device="meta"))
    with pytest.raises(ValueRangeError, match="'model/mask'"):
        save_model(net, tmp_path / "m.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tree", "no JSON"),
        ("tree", "[" * 20_000 + "]" * 20_000),
        ("tree", '{"$": "dict", "items": 5}'),
        ("tree", tree_of("0.weight", '{"$": "ndarray", "at": "x"}')),
        ("tree", tree_of("0.weight", '{"$": "tensor", "at": "gone/x"}')),
        ("tree", tree_of("0.weight", '{"$": "tensor", "at": "model/0.weight", "axes": [0, 7]}')),
        ("tree", tree_of("0.weight", '{"$": "tensor", "at": "model/0.weight", "strides": [1, 1]}')),
        ("tree", tree_of("0.weight", '{"$": "tensor", "at": 5}')),
        ("classes", "5"),
        ("classes", "no JSON"),
    ],
)
def test_a_malformed_state_is_named(tmp_path: Path, name: str, text: str) -> None:
    net, optimizer, _ = make_training("adam", "step")
    save_model(net, tmp_path / "m.h5", optimizer=optimizer)
    records = archive.load(tmp_path / "m.h5")
    records.config_records["fedarchive.state"][name] = text
    archive.save(records, tmp_path / "m.h5")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(HostileFileError, match=r"invalid|missing") as caught:
        load_model(net, tmp_path / "m.h5", strict=False)
    assert caught.value.path == str(tmp_path / "m.h5")
    assert (caught.value.key or "").partition("/")[0] in ("fedarchive.state", "state")
    assert_same(before, dict(net.state_dict()))


@pytest.mark.parametrize("state", [{}, {"param_groups": 5}])
def test_an_optimizer_without_groups_does_not_fit(tmp_path: Path, state: dict[str, Any]) -> None:
    net, optimizer, _ = make_training("adam", "step")
    save_state({"model": net.state_dict(), "optimizer": state}, tmp_path / "m.h5")
    with pytest.raises(ModelMismatchError, match="without groups"):
        load_model(net, tmp_path / "m.h5", optimizer=optimizer)


def test_damage_is_not_loaded(tmp_path: Path) -> None:
    net, optimizer, scheduler = make_training("adam", "step")
    train(net, optimizer, scheduler, range(1))
    path = tmp_path / "m.h5"
    save_model(net, path, optimizer=optimizer)
    data = bytearray(path.read_bytes())
    data[data.index(net[3].weight.detach().numpy().tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(DigestError, match=r"3\.weight"):
        load_model(make_net(5), path)
    with pytest.raises(ArchiveError):
        load_model(make_net(5), tmp_path / "none.h5")
    save_model(net, path, optimizer=optimizer)
    data = bytearray(path.read_bytes())
    data[data.index(optimizer.state[net[3].weight]["exp_avg"].numpy().tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(DigestError, match=r"optimizer/state\.4\.exp_avg"):
        load_model(*make_training("adam", "step")[:1], path, optimizer=optimizer)


@pytest.mark.parametrize("whole", [False, True])
def test_the_best_model_of_a_run_in_two_lines(tmp_path: Path, whole: bool) -> None:
    """Whether the run saved state dicts, or models with their optimizers."""
    net = torch.nn.Linear(3, 2)
    store = archive.CheckpointStore(tmp_path, best_by="loss", keep_last=1)
    for number, loss in enumerate([0.5, 0.1, 0.4], start=1):
        torch.nn.init.constant_(net.weight, number)
        metrics = {"loss": loss}
        if whole:
            save_model(net, tmp_path / "aside.h5", optimizer=torch.optim.Adam(net.parameters()))
            with archive.open(tmp_path / "aside.h5") as saved:
                store.save(saved.records, number, metrics=metrics)
        else:
            store.save(net.state_dict(), number, metrics=metrics)
    loaded = torch.nn.Linear(3, 2)
    assert load_model(loaded, archive.CheckpointStore(tmp_path).open("best")).missing_keys == []
    assert loaded.weight.tolist() == [[2.0] * 3] * 2


def test_an_open_archive_stays_open(tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2)
    save_state({"model": net.state_dict(), "epoch": 3}, tmp_path / "m.h5")
    with archive.open(tmp_path / "m.h5") as opened:
        load_model(torch.nn.Linear(3, 2), opened)
        assert load_state(opened, keys=["epoch"]) == {"epoch": 3}
        state = load_state(opened)
        assert state["model"]["weight"].equal(net.weight)
        state["model"]["weight"] += 1
        assert not opened.closed
        assert torch.equal(load_state(opened)["model"]["weight"], net.weight), "private memory"
        with pytest.raises(TypeError, match="are for a URL, not for an open archive"):
            load_model(net, opened, cache=True)
    with pytest.raises(ClosedError):
        load_model(net, opened)
