"""Verify finds every byte of the HDF5 tree that does not say what the index says, and nothing else."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import archive
from archive.engine.read import treecheck
from archive.engine.read.expectedtree import encode_expected
from archive.engine.report import Failure
from archive.errors import ArchiveError, HostileFileError
from archive.format.constants import DATA_AT
from spec.v1.vectors.accepted import F4, OWN, RAW, WEIGHTS, counted, npy, record
from spec.v1.vectors.generate import save
from tests.crafting import Crafted
from tests.trees import Tree, extended, footer_of, reordered, with_superblock

VALID = Path(__file__).parents[3] / "spec/v1/vectors/valid"
SLACK = {
    "belongs to no structure": "no address leads there",
    "lies in a heap's block, after its links": "the heap's header says where the links end",
    "lies in a tree's node, after its records": "the tree's header says how many records there are",
    "is free space of a global heap collection": "no string lies there",
    "pads a string of the global heap": "the string's length leaves it out",
    "is the rest of a global heap collection": "it is too short for a string",
}
"""Bytes that may be anything without a difference in meaning, each sort with its reason."""


def small() -> archive.RecordDict:
    """Return metrics, configs, bytes, lists and attributes."""
    arrays = record(w=WEIGHTS)
    arrays.attributes.update({"role": "weights", "é": [1, 2], "flag": True})
    values: dict[str, Any] = {
        "b": b"\0\1", "no b": b"", "s": "text", "nul": "a\0b", "strs": ["a", "", "é"], "bs": [b"x"],
        "empty": [], "on": [True, False], "u": 2**64 - 1,
    }  # fmt: skip
    return archive.RecordDict(
        {
            "fit": archive.MetricRecord({"loss": 0.5, "steps": [1, 2]}),
            "model": arrays,
            "run": archive.ConfigRecord(values),
        }
    )


def odd() -> archive.RecordSet:
    """Return ties, odd names, arrays of all sorts, and values that are datasets."""
    own = archive.Array("float32", (2, 3), "numpy.ndarray", npy(OWN, F4.tobytes()))
    arrays = {
        "tied": RAW, "a/b": RAW, "%": np.array(7), "text": np.array(["a", "é"]), "": np.zeros((0, 2)),
        "fields": np.zeros(2, [("a", "<i2"), ("b", "?", (2,))]), "own": own,
        "columns": np.asfortranarray(counted("<f8", (2, 3))),
    }  # fmt: skip
    return archive.RecordSet(
        {"é": record(**arrays), ".": record(tied=RAW)},
        {"m": archive.MetricRecord({"history": [0.5] * 20})},
        {"c": archive.ConfigRecord({"story": "x" * 200, "nul": "\0" * 200, "n": 1})},
    )


def large() -> archive.Context:
    """Return a Context, a group of more than 8 arrays, and one of more than 8 attributes."""
    arrays = record(**{f"layer{number}": counted("u1", (number,)) for number in range(11)})
    state = archive.RecordDict({"m": arrays, "v": archive.ConfigRecord({f"v{n}": n for n in range(12)})})
    return archive.Context(1, 2, {"a": "b"}, state, {"lr": 0.1}, 3)


ARCHIVES: dict[str, Callable[[], Any]] = {"small": small, "odd": odd, "large": large}


@pytest.fixture(params=ARCHIVES, scope="module")
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    path = tmp_path_factory.mktemp("trees") / "a.h5"
    save(ARCHIVES[request.param](), path, stored_above=100)
    return Tree(path.read_bytes())


def failures_of(data: bytes, path: Path) -> list[Failure]:
    """Return what verify says of a file; a refusal to open it counts as one failure."""
    path.write_bytes(data)
    try:
        return list(archive.verify(path).failures)
    except ArchiveError as error:
        return [Failure("", "open", 0, error.offset or 0, error.problem)]


def shown(failures: list[Failure]) -> set[str]:
    """Return the HDF5 paths that failures may mean."""
    names = {f"{quoted(at.record)}/{quoted(at.key)}" for at in failures if at.record}
    pairs = {f"/{kind}/{name}" for kind in ("arrays", "metrics", "configs") for name in names}
    return pairs | {at.key for at in failures if not at.record}


def quoted(name: str) -> str:
    return {"": "%", ".": "%2E"}.get(name, name.replace("%", "%25").replace("/", "%2F"))


def meaningful(tree: Tree) -> Iterator[int]:
    """Yield the offsets of bytes that are neither slack nor part of a checksum."""
    sums = {block.sum_at + n for block in tree.blocks if block.sum_at for n in range(4)}
    assert set(tree.slack.values()) <= SLACK.keys()
    for at in range(tree.footer.meta_at, tree.footer.index_at):
        if at not in tree.slack and at not in sums:
            yield at


def require_reported(tree: Tree, at: int, byte: int, path: Path) -> None:
    failures = failures_of(tree.changed({at: byte}), path)
    assert failures, f"byte {at} of {tree.data[at]} as {byte}"
    assert shown(failures) & tree.names(at), f"byte {at}: {failures}"
    assert all(failure.bytes_match for failure in failures)


@pytest.mark.must("HDF5-3", "VERIFY-4")
def test_some_changes_are_reported(tree: Tree, tmp_path: Path) -> None:
    chance = random.Random(7)
    for at in chance.sample(list(meaningful(tree)), 40):
        require_reported(tree, at, tree.data[at] ^ chance.randrange(1, 256), tmp_path / "a.h5")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_change_is_reported(tree: Tree, tmp_path: Path) -> None:
    for at in meaningful(tree):
        byte = tree.data[at]
        require_reported(tree, at, byte ^ 0xFF if at % 2 else (byte + 1) % 256, tmp_path / "a.h5")


def test_bytes_that_mean_nothing_may_be_anything(tree: Tree, tmp_path: Path) -> None:
    assert tree.slack
    data = tree.changed(dict.fromkeys(tree.slack, 0xAA))
    assert data != tree.data
    assert failures_of(data, tmp_path / "a.h5") == []


def test_every_sort_of_slack_occurs(tmp_path: Path) -> None:
    found = set()
    for name, records in ARCHIVES.items():
        save(records(), tmp_path / name, stored_above=100)
        found |= set(Tree((tmp_path / name).read_bytes()).slack.values())
    # collections as the library writes them end with their strings, or with free space
    assert SLACK.keys() - found <= {"is the rest of a global heap collection"}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    path = tmp_path_factory.mktemp("sample") / "a.h5"
    save(small(), path)
    return Tree(path.read_bytes())


W = "/arrays/model/w"
Place = Callable[[Tree], int]


def body(fact: str, skip: int, path: str = W) -> Place:
    """Return where the body of a dataset's message is, after so many bytes of it."""
    return lambda tree: tree.find(path).facts[fact].offset + 4 + skip


def attribute(path: str, name: str) -> Place:
    """Return where an attribute's name is."""
    head = 4 if path == W else 6
    return lambda tree: tree.find(path).attributes[name.encode()].offset + head + 9


def linked(path: str, name: str) -> Place:
    """Return where a link's name is."""
    return lambda tree: tree.find(path).links[name.encode()].offset + 6 + 13


def string(text: bytes) -> Place:
    return lambda tree: tree.data.index(text, tree.footer.meta_at)


CHANGES: list[tuple[str, Place, bytes, str]] = [
    ("address", body("address", 2), b"\x40\x10", "model/w: its HDF5 address is 4160, by the index 4096"),
    ("length", body("length", 10), b"\x28", "model/w: its HDF5 length is 40, by the index 48"),
    ("shape", body("shape", 4), b"\2", "model/w: its HDF5 shape is (2, 4), by the index (3, 4)"),
    ("type", body("type", 1), b"\x21", "model/w: its HDF5 type is 11211f"),
    ("missing", attribute(W, "shape"), b"S", "model/w: its attribute 'shape' is missing"),
    ("unknown", attribute(W, "shape"), b"S", "model/w: the index has no such attribute: 'Shape'"),
    ("string", string(b"numpy.ndarray"), b"N", "model/w: the value of its attribute 'stype' is not that"),
    ("number", lambda tree: attribute("/metrics/fit", "steps")(tree) + 6 + 12 + 12, b"\x03",
     "/metrics/fit: the value of its attribute 'steps' is not that"),
    ("unlinked", linked("/arrays/model", "w"), b"v", "model/w: no link leads to it"),
    ("added", linked("/arrays/model", "w"), b"v", "/arrays/model/v: the index has no such object"),
    ("target", lambda tree: linked("/", "metrics")(tree) + 7, b"\xff", "/metrics: "),
    ("metric", attribute("/metrics/fit", "loss"), b"L", "/metrics/fit: its attribute 'loss' is missing"),
    ("order", lambda tree: attribute("/metrics/fit", "loss")(tree) - 11, b"\1",
     "/metrics/fit: attributes whose creation order is not from 0 on: not a structure of section 5"),
    ("root", string(b"fedarchive"), b"F", "/: the value of its attribute 'format' is not that"),
    ("index", body("address", 2, "/index"), b"\1", "/index: its HDF5 address is"),
    ("header", lambda tree: tree.objects[b"arrays",][0], b"X", "/arrays: not an object header: "),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change[0])
def test_what_differs_is_said(sample: Tree, tmp_path: Path, change: tuple[str, Place, bytes, str]) -> None:
    _, at, new, problem = change
    failures = failures_of(sample.replaced(at(sample), new), tmp_path / "a.h5")
    texts = [f"{failure.name or failure.key}: {failure.problem}" for failure in failures]
    assert [text for text in texts if text.startswith(problem)], texts
    assert all(sample.footer.meta_at <= failure.offset < sample.footer.index_at for failure in failures)
    with pytest.raises(HostileFileError):
        archive.open(tmp_path / "a.h5", verify="open")


@pytest.mark.parametrize("at", range(44))
def test_every_byte_of_the_superblock_is_compared(sample: Tree, tmp_path: Path, at: int) -> None:
    superblock = bytearray(sample.data[:48])
    superblock[at] ^= 0xFF
    failures = failures_of(with_superblock(sample.data, bytes(superblock)), tmp_path / "a.h5")
    assert {failure.key for failure in failures} & {"superblock", "open", "/"}


def test_all_differences_are_reported(tmp_path: Path) -> None:
    """Two arrays that changed places are four faults, and each has its name."""
    archive.save({"a": np.zeros(4), "b": np.ones(4)}, tmp_path / "a.h5")
    tree = Tree((tmp_path / "a.h5").read_bytes())
    one, two = (tree.find(f"/arrays/model/{name}").facts["address"].offset + 6 for name in "ab")
    swapped = dict(enumerate(tree.data[one : one + 8], two)) | dict(enumerate(tree.data[two : two + 8], one))
    failures = failures_of(tree.changed(swapped), tmp_path / "a.h5")
    assert [failure.name for failure in failures] == ["model/a", "model/b"]
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["arrays/model/a"][0] == 1  # what nobody noticed before


def values_of(path: Path) -> dict[str, object]:
    """Return what h5py sees of a file but for ``/index``: elements, attributes, and their order."""
    seen: dict[str, object] = {}
    with h5py.File(path) as file:

        def visit(name: str, item: Any) -> None:
            elements = None
            if isinstance(item, h5py.Dataset) and name != "index":
                elements = item.dtype, item.shape, item.id.get_offset(), item[()].tobytes()
            order = list(item.attrs) if isinstance(item, h5py.Group) else sorted(item.attrs)
            seen[name] = elements, [(key, repr(item.attrs[key])) for key in order]

        file.visititems(visit)
        seen["/"] = [(key, file.attrs[key]) for key in file.attrs], list(file)
    return seen


def test_another_order_of_blocks_is_accepted(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(tree.data)
    other = reordered(tree.data)
    assert footer_of(other).meta_bytes != tree.footer.meta_bytes or other != tree.data
    assert failures_of(other, tmp_path / "b.h5") == []
    assert values_of(tmp_path / "a.h5") == values_of(tmp_path / "b.h5")
    with archive.open(tmp_path / "a.h5") as one, archive.open(tmp_path / "b.h5") as two:
        assert one.records == two.records


def test_changes_of_another_order_are_reported(tree: Tree, tmp_path: Path) -> None:
    other = Tree(reordered(tree.data))
    chance = random.Random(7)
    for at in chance.sample(list(meaningful(other)), 20):
        require_reported(other, at, other.data[at] ^ chance.randrange(1, 256), tmp_path / "a.h5")


@pytest.mark.parametrize("path", sorted(VALID.glob("*.h5")), ids=lambda path: path.stem)
def test_bytes_as_we_write_them_are_not_parsed(path: Path, tmp_path: Path) -> None:
    """The metadata of our own archives are recognised by their digest, which costs a parser nothing."""
    with archive.open(path) as handle:
        reader = handle._reader
        footer = footer_of(path.read_bytes())
        assert treecheck._is_equal(encode_expected(reader, footer, ()), footer)
    assert failures_of(reordered(path.read_bytes()), tmp_path / "a.h5") == []


@pytest.mark.must("VERSION-3")
def test_a_later_minor_version_may_add_attributes_and_groups(tree: Tree, tmp_path: Path) -> None:
    assert failures_of(extended(tree.data, 1), tmp_path / "a.h5") == []
    problems = {(at.key, at.problem) for at in failures_of(extended(tree.data, 0), tmp_path / "a.h5")}
    assert problems == {
        ("/", "the index has no such attribute: 'later'"),
        ("/added", "the index has no such object"),
    }


def test_a_damaged_text_is_reported_once(tmp_path: Path) -> None:
    """Its type in the tree depends on its bytes, and these are not known."""
    config = archive.ConfigRecord({"story": "x" * 200})
    save(archive.RecordSet({}, {}, {"c": config}), tmp_path / "a.h5", stored_above=100)
    data = bytearray((tmp_path / "a.h5").read_bytes())
    data[DATA_AT + 3] = 0
    [failure] = failures_of(bytes(data), tmp_path / "a.h5")
    assert (failure.name, failure.bytes_match) == ("c/story", False)


def test_a_text_with_nul_is_shown_as_bytes(tmp_path: Path) -> None:
    """Only its bytes say of which type the dataset of a text is."""
    config = archive.ConfigRecord({"story": "x" * 200})
    save(archive.RecordSet({}, {}, {"c": config}), tmp_path / "a.h5", stored_above=100)
    crafted = Crafted(tmp_path / "a.h5")
    crafted.write_elements("c", "story", b"\0", 3)
    failures = failures_of(crafted.assemble(), tmp_path / "a.h5")
    problems = [failure.problem for failure in failures if failure.name == "c/story"]
    assert [problem.split(" is ")[0] for problem in problems] == ["its HDF5 shape", "its HDF5 type"]


def test_many_differences_are_counted_no_further(tmp_path: Path) -> None:
    names = [f"{number:04}" for number in range(1100)]
    archive.save({name: np.zeros(1) for name in names}, tmp_path / "a.h5", durable=False)
    tree = Tree((tmp_path / "a.h5").read_bytes())
    offsets = [tree.find(f"/arrays/model/{name}").facts["address"].offset + 4 + 9 for name in names]
    failures = failures_of(tree.changed(dict.fromkeys(offsets, 1)), tmp_path / "a.h5")
    assert len(failures) == treecheck.MOST + 1
    assert failures[-1].problem == "differs in more places, of which the first 1,000 are reported"


def test_an_index_that_asks_for_gigabytes_is_refused(tmp_path: Path) -> None:
    """A type of a megabyte that 3,000 rows share would be 3 GB of metadata."""
    archive.save({str(number): np.zeros(1) for number in range(3000)}, tmp_path / "a.h5", durable=False)
    crafted = Crafted(tmp_path / "a.h5")
    row = crafted.type_of("model", "0")
    row["stype_at"], row["stype_bytes"] = crafted.add_text(b"x" * 1_000_000)
    data = crafted.assemble()
    tracemalloc.start()
    try:
        [failure] = failures_of(data, tmp_path / "a.h5")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "its datasets take more than" in failure.problem
    assert peak < 100 << 20


def test_what_hdf5_cannot_hold_is_reported(tmp_path: Path) -> None:
    archive.save({}, tmp_path / "a.h5", configs={"c": {"text": "x"}})
    crafted = Crafted(tmp_path / "a.h5")
    crafted.document["values"][0][2][0][1] = ["bytes", "AAAA" * 30_000]
    [failure] = failures_of(crafted.assemble(), tmp_path / "a.h5")
    assert failure.problem.startswith("cannot hold what the index says")
    assert failure.bytes_match


def test_a_value_of_no_elements_that_hdf5_has_is_reported(tmp_path: Path) -> None:
    """Its description is looked at when it is decoded, which a damaged value before it prevented."""
    metrics = archive.MetricRecord({"a": [0.5] * 20, "b": [0.5] * 20})
    save(archive.RecordSet({}, {"m": metrics}), tmp_path / "a.h5", stored_above=100)
    crafted = Crafted(tmp_path / "a.h5")
    sections, first, row = crafted.sections, crafted.row("m", "a"), crafted.row("m", "b")
    sections["types"] = np.append(sections["types"], sections["types"][:1])
    sections["type"][row] = 1
    crafted.describe("m", "b", "<U3")
    sections["nbytes"][row] = sections["offset"][row] = 0
    crafted.reshape("m", "b", (0,))
    sections["digests"] = sections["digests"][:1]
    start, end = int(sections["offset"][first]), int.from_bytes(crafted.footer[40:48], "little")
    crafted.data[start + 160 : end] = bytes(end - start - 160)
    crafted.data[start] ^= 1
    failures = failures_of(crafted.assemble(), tmp_path / "a.h5")
    assert [failure.name for failure in failures if not failure.bytes_match] == ["m/a"]
    assert [failure for failure in failures if failure.bytes_match]


def test_a_damaged_tree_is_damage_and_nothing_else(sample: Tree, tmp_path: Path) -> None:
    data = bytearray(sample.data)
    data[sample.footer.meta_at + 100] ^= 1
    (tmp_path / "a.h5").write_bytes(sample.data)
    with archive.open(tmp_path / "a.h5", access="pread") as handle:
        (tmp_path / "a.h5").write_bytes(data)
        [failure] = handle.verify().failures
    assert (failure.key, failure.bytes_match) == ("HDF5 metadata", False)


INTERESTING = (0, 1, 255, 65535, (1 << 32) - 1, 1 << 31, 1 << 62)


def mutated(tree: Tree, chance: random.Random) -> bytes:
    """Return an archive with a few fields of the tree changed at random."""
    changes: dict[int, int] = {}
    for _ in range(chance.randrange(1, 4)):
        width = chance.choice((1, 2, 4, 8))
        at = chance.randrange(tree.footer.meta_at, tree.footer.index_at - width)
        address = chance.choice(tree.blocks).start
        number = chance.choice((*INTERESTING, address, address + 1, chance.getrandbits(64)))
        changes |= dict(enumerate((number % (1 << 8 * width)).to_bytes(width, "little"), at))
    return tree.changed(changes)


def test_mutations_are_reported_and_not_raised(tree: Tree, tmp_path: Path) -> None:
    chance = random.Random(7)
    for _ in range(20):
        failures_of(mutated(tree, chance), tmp_path / "a.h5")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_mutations_are_reported_and_not_raised(tree: Tree, tmp_path: Path) -> None:
    chance = random.Random(8)
    for _ in range(7000):
        failures_of(mutated(tree, chance), tmp_path / "a.h5")


@pytest.mark.slow
def test_mutations_take_little_memory(tree: Tree, tmp_path: Path) -> None:
    chance = random.Random(9)
    tracemalloc.start()
    try:
        for _ in range(500):
            failures_of(mutated(tree, chance), tmp_path / "a.h5")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 << 20
