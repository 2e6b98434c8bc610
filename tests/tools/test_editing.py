"""What an edit changes, what it keeps, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import archive
from archive.dtypes import NDArray
from archive.tools import edit
from archive.tools.editing import Editor
from tests.children import child_environment
from tests.crafting import Crafted
from tests.faults.scenes import litter
from tests.servers.s3 import BUCKET, S3Server
from tests.storage.folderstore import FolderStore, reach

CREATED = "2026-01-02T03:04:05Z"
LARGE = np.arange(5 << 18, dtype="f4")
"""5 MiB: written by threads, a few segments at a time."""


def arrays() -> dict[str, NDArray]:
    tied = np.arange(12, dtype="f4").reshape(3, 4)
    return {
        "wte": tied,
        "large": LARGE,
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "lm_head": tied,
        "step": np.array(7),
        "text": np.array(["a", "bc"]),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An archive with a tied array, metrics and configs."""
    path = tmp_path / "m.h5"
    archive.save(arrays(), path, metrics={"loss": 0.5}, configs={"run": {"lr": 0.1}}, created=CREATED)
    return path


def keys(path: Path) -> list[str]:
    with archive.open(path) as handle:
        return [key for _, key in handle]


def offset_of(path: Path, key: str) -> int:
    with archive.open(path) as handle:
        offset: int = handle[key].payload.where[1]  # type: ignore[attr-defined]
    return offset


def model_of(path: Path) -> Any:
    return archive.load(path)["model"]


def damage(path: Path, key: str, at: int = 5) -> None:
    """Flip a bit of an array, in place."""
    with path.open("r+b") as file:
        file.seek(offset_of(path, key) + at)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


def test_the_bytes_are_those_of_a_save(path: Path, tmp_path: Path) -> None:
    with edit(path) as e:
        e["model", "large"] = LARGE + 1
        e["added"] = np.ones(3)
        e.rename("fortran", "column-major")
        del e["model", "step"]
        e.metrics["metrics"]["loss"] = 0.25
        e.configs["more"] = {"note": "x"}
        del e.configs["run"]
    wanted = arrays() | {"large": LARGE + 1}
    wanted = {key.replace("fortran", "column-major"): array for key, array in wanted.items()}
    del wanted["step"]
    wanted["added"] = np.ones(3)
    saved = archive.save(
        wanted, tmp_path / "w.h5", metrics={"loss": 0.25}, configs={"more": {"note": "x"}}, created=CREATED
    )
    assert path.read_bytes() == (tmp_path / "w.h5").read_bytes()
    assert e.report.digest == saved.digest
    assert archive.verify(path).ok


def test_nothing_changed_gives_the_same_file(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    with edit(path, tmp_path / "out.h5"):
        pass
    with edit(path):
        pass
    assert path.read_bytes() == (tmp_path / "out.h5").read_bytes() == before


def test_the_creation_time_may_be_given(path: Path) -> None:
    with edit(path, created="2027-01-01T00:00:00Z"):
        pass
    with archive.open(path) as handle:
        assert handle.info.created == "2027-01-01T00:00:00Z"


def test_an_editor_is_read_like_an_archive(path: Path) -> None:
    with edit(path) as e, archive.open(path) as handle:
        assert list(e) == list(handle)
        assert len(e) == len(handle)
        assert "wte" in e
        assert ("model", "wte") in e
        assert ("other", "wte") not in e
        assert 3 not in e
        assert e["model", "wte"] == handle["wte"]
        e["wte"] = np.zeros(2, "i1")
        assert e["wte"] == archive.Array(np.zeros(2, "i1"))
        e["opaque"] = archive.Array("", (), "my.own", b"abc")
        assert e["opaque"].data == b"abc"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("wt", r"no array 'wt'; did you mean 'wte'\?"),
        (("model", "lm_haed"), r"no array \('model', 'lm_haed'\); did you mean 'lm_head'\?"),
        (("other", "wte"), r"no array \('other', 'wte'\)"),
    ],
)
@pytest.mark.parametrize("use", ["get", "delete", "rename", "cast"])
def test_an_array_that_is_not_there(path: Path, key: Any, says: str, use: str) -> None:
    uses: dict[str, Callable[[Editor], Any]] = {
        "get": lambda e: e[key],
        "delete": lambda e: e.__delitem__(key),
        "rename": lambda e: e.rename(key, "new"),
        "cast": lambda e: e.cast("float16", [key]),
    }
    before = path.read_bytes()
    with pytest.raises(KeyError, match=says), edit(path) as e:
        uses[use](e)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("pattern", "gone"),
    [
        ("*e", {"wte", "large"}),
        ("model/[wl]*e", {"wte", "large"}),
        ("model/wte", {"wte"}),
        ("large", {"large"}),
        ("ste?", {"step"}),
    ],
)
def test_deleting_by_a_pattern(path: Path, pattern: str, gone: set[str]) -> None:
    with edit(path) as e:
        del e[pattern]
    assert keys(path) == [key for key in arrays() if key not in gone]


def test_a_key_that_looks_like_a_pattern_is_deleted_alone(path: Path) -> None:
    with edit(path) as e:
        e["l[a]rge"] = np.zeros(1)
        e["ema", "wte"] = np.zeros(1)
        del e["l[a]rge"]
        with pytest.raises(KeyError, match="in several records"):
            del e["wte"]
        with pytest.raises(KeyError, match=r"no array 'x\*'"):
            del e["x*"]
        with pytest.raises(KeyError, match=r"no array \('model', 'w\*'\)"):
            del e["model", "w*"]
    assert keys(path) == [*arrays(), "wte"]


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("model", r"no array 'model'; 'model' is a record: e\['model', KEY\]"),
        ("metrics", r"no array 'metrics'; 'metrics' is a record: e.metrics\['metrics'\]"),
        ("run", r"no array 'run'; 'run' is a record: e.configs\['run'\]"),
        ("model/wte", r"no array 'model/wte'; did you mean \['model', 'wte'\]\?"),
    ],
)
def test_a_record_is_no_array(path: Path, key: str, says: str) -> None:
    with edit(path) as e, pytest.raises(KeyError, match=says):
        e[key]


def test_a_key_of_several_records(path: Path) -> None:
    with edit(path) as e:
        e["ema", "wte"] = np.zeros(1)
        with pytest.raises(
            KeyError, match=r"in several records, name one: \('model', 'wte'\), \('ema', 'wte'\)"
        ):
            e["wte"]
        with pytest.raises(KeyError, match=r"no array 'new'.*as in e\['model', 'new'\]"):
            e["new"] = np.zeros(1)  # nobody says in which record
    with archive.open(path) as handle:
        assert handle["ema", "wte"].shape == (1,)


@pytest.mark.parametrize("wrong", [3, ("a", "b", "c"), ("model", 3)])
def test_what_is_no_key(path: Path, wrong: Any) -> None:
    with edit(path) as e:
        with pytest.raises(TypeError):
            e[wrong]
        with pytest.raises(TypeError):
            e[wrong] = np.zeros(1)
        with pytest.raises(TypeError):
            e.rename("wte", wrong)


@pytest.mark.parametrize("wrong", [3.5, [1, 2], None, np.array([object()])])
def test_what_is_no_array(path: Path, wrong: Any) -> None:
    with edit(path) as e, pytest.raises(TypeError, match="model/wte"):
        e["wte"] = wrong


def fail(e: Editor) -> None:
    del e["wte"]
    raise ZeroDivisionError


def test_an_exception_publishes_nothing(path: Path) -> None:
    before = path.read_bytes()
    e = edit(path)
    with pytest.raises(ZeroDivisionError), e:
        fail(e)
    assert path.read_bytes() == before
    assert litter(path.parent, path.name) == []
    with pytest.raises(archive.ArchiveError, match="nothing is published yet"):
        _ = e.report
    with pytest.raises(archive.ArchiveError, match="closed"):
        e["wte"]


def test_a_value_that_no_archive_holds_publishes_nothing(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(archive.ArchiveError), edit(path) as e:
        e["a\0/../b" * 70_000] = np.zeros(1)
    assert path.read_bytes() == before
    assert litter(path.parent, path.name) == []


def test_renaming(path: Path) -> None:
    with edit(path) as e:
        e.rename(("model", "wte"), ("model", "first"))
        e.rename("step", ("other", "step"))
        e.rename("text", "text")
        with pytest.raises(archive.ArchiveError, match="has that name already"):
            e.rename("large", "lm_head")
    with archive.open(path) as handle:
        assert list(handle) == [
            *(("model", key) for key in ("first", "large", "fortran", "lm_head", "text")),
            ("other", "step"),
        ]


@pytest.mark.needs("torch")
def test_tensors(path: Path) -> None:
    import torch

    with edit(path) as e:
        e["half"] = torch.ones(3, dtype=torch.bfloat16)
        e["turned"] = torch.arange(6.0).reshape(3, 2).t()
        assert e["turned"].shape == (2, 3)
        e.cast(torch.float16, ["half", "turned", "large"])
        e["grad"] = torch.nn.Parameter(torch.ones(2))
    found = model_of(path)
    assert {found[key].dtype for key in ("half", "turned", "large")} == {"float16"}
    assert found["turned"].numpy().tolist() == [[0, 2, 4], [1, 3, 5]]
    assert found["grad"].numpy().tolist() == [1, 1]


class TestTies:
    """Two keys of one array."""

    def test_they_stay(self, path: Path) -> None:
        with edit(path) as e:
            e.rename("wte", "embedding")
        with archive.open(path) as handle:
            assert handle["embedding"].payload.where == handle["lm_head"].payload.where  # type: ignore[attr-defined]

    def test_an_assignment_unties(self, path: Path) -> None:
        with edit(path) as e:
            e["wte"] = np.zeros((3, 4), "f4")
        loaded = model_of(path)
        assert not loaded["wte"].numpy().any()
        assert np.array_equal(loaded["lm_head"].numpy(), arrays()["lm_head"])

    def test_deleting_the_first_keeps_the_other(self, path: Path) -> None:
        with edit(path) as e:
            del e["wte"]
        assert np.array_equal(model_of(path)["lm_head"].numpy(), arrays()["lm_head"])

    def test_one_object_under_two_keys_is_tied(self, path: Path) -> None:
        with edit(path) as e:
            e["wte"] = e["lm_head"] = np.zeros(70_000)
            e.cast("float32")
        with archive.open(path) as handle:
            assert handle["wte"].payload.where == handle["lm_head"].payload.where  # type: ignore[attr-defined]
            assert handle["wte"].dtype == "float32"

    def test_a_cast_keeps_them(self, path: Path) -> None:
        with edit(path) as e:
            assert ("model", "lm_head") in e.cast("bfloat16")
        with archive.open(path) as handle:
            assert handle["wte"].payload.where == handle["lm_head"].payload.where  # type: ignore[attr-defined]


class TestCast:
    """Other element types."""

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "float8_e4m3fn", ">f4", "int8", "?"])
    def test_elements_are_those_of_astype(self, path: Path, tmp_path: Path, dtype: str) -> None:
        wanted = np.dtype(getattr(ml_dtypes, dtype) if hasattr(ml_dtypes, dtype) else dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            converted = {
                key: array.astype(wanted) if array.dtype.kind == "f" else array
                for key, array in arrays().items()
            }
        converted["lm_head"] = converted["wte"]
        archive.save(
            converted, tmp_path / "w.h5", metrics={"loss": 0.5}, configs={"run": {"lr": 0.1}}, created=CREATED
        )
        with edit(path) as e:
            e.cast(dtype)
            assert e["fortran"].numpy().tobytes() == converted["fortran"].tobytes()
            assert e["large"][2:5].tobytes() == converted["large"][2:5].tobytes()
            assert e["large"].data == archive.Array(converted["large"]).data
        assert path.read_bytes() == (tmp_path / "w.h5").read_bytes()

    def test_short_names_of_types(self, path: Path) -> None:
        with edit(path) as e:
            assert e.cast("bf16", "large") == [("model", "large")]
            assert e.cast("torch.bfloat16", "large") == []
            assert e.cast("fp32", "fortran") == [("model", "fortran")]
        found = model_of(path)
        assert [found[key].dtype for key in ("large", "fortran")] == ["bfloat16", "float32"]

    def test_counters_stay_unless_they_are_named(self, path: Path) -> None:
        with edit(path) as e:
            assert e.cast(np.float16) == [("model", key) for key in ("wte", "large", "fortran", "lm_head")]
            assert e.cast("float16") == []
            assert e.cast("int32", ["step"]) == [("model", "step")]
            assert e.cast("float32", "f*") == [("model", "fortran")]
            assert e.cast("float64", ["model/w*", ("model", "wte"), "wte"]) == [("model", "wte")]
        found = {key: array.dtype for key, array in model_of(path).items()}
        assert list(found.values()) == ["float64", "float16", "float32", "float16", "int32", "<U2"]

    def test_one_after_the_other_rounds_twice(self, path: Path) -> None:
        with edit(path) as e:
            e.cast("float8_e5m2")
            e.cast("float32")
        wanted = LARGE.astype(ml_dtypes.float8_e5m2).astype("f4")
        assert model_of(path)["large"].numpy().tobytes() == wanted.tobytes()

    @pytest.mark.parametrize(
        ("dtype", "chosen", "says"),
        [
            ("float16", "*", "model/text.*does not hold numbers"),
            ("float16", ["wte", "z"], "model/z.*no imaginary part"),
            ("U5", None, "no type of numbers"),
            ("frobnicate", None, "names no dtype"),
        ],
    )
    def test_refused_as_a_whole(self, path: Path, dtype: str, chosen: Any, says: str) -> None:
        with edit(path) as e:
            e["z"] = np.ones(2, "c8")
            with pytest.raises(archive.ArchiveError, match=says):
                e.cast(dtype, chosen)
            assert e["wte"].dtype == "float32"

    def test_a_pattern_that_matches_nothing(self, path: Path) -> None:
        with edit(path) as e, pytest.raises(KeyError, match="did you mean 'large'"):
            e.cast("float16", "largo")

    def test_a_name_with_brackets_is_a_name(self, path: Path) -> None:
        with edit(path) as e:
            e["layer[0]"] = np.zeros(2)
            assert e.cast("float16", "layer[0]") == [("model", "layer[0]")]


def context(records: Any) -> archive.Context:
    return archive.Context(3, 4, {"partition": 1}, records, {"lr": 0.5}, 6)


CONTAINERS: dict[str, Callable[[], Any]] = {
    "recordset": lambda: archive.RecordSet({"a": record()}, {"same": archive.MetricRecord({"n": 1})}),
    "recorddict": lambda: archive.RecordDict({"m": archive.MetricRecord({"n": 1}), "a": record()}),
    "context": lambda: context(archive.RecordDict({"a": record()})),
}


def record() -> archive.ArrayRecord:
    made = archive.ArrayRecord({"w": archive.Array(np.zeros(4))})
    made.attributes["role"] = "weights"
    return made


@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers_and_attributes_stay(kind: str, tmp_path: Path) -> None:
    made = CONTAINERS[kind]()
    archive.save(made, tmp_path / "a.h5", created=CREATED)
    with edit(tmp_path / "a.h5") as e:
        e["a", "w"] = np.ones(4)
        e["b", "w"] = np.ones(2)
        e.metrics.setdefault("fit", {})["loss"] = 0.5
    records = made.state if kind == "context" else made
    records["a"]["w"] = archive.Array(np.ones(4))
    added = archive.ArrayRecord({"w": archive.Array(np.ones(2))})
    records["b"] = added
    records["fit"] = archive.MetricRecord({"loss": 0.5})
    archive.save(made, tmp_path / "w.h5", created=CREATED)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "w.h5").read_bytes()


def test_one_name_space_of_a_recorddict(tmp_path: Path) -> None:
    archive.save(CONTAINERS["recorddict"](), tmp_path / "a.h5")
    with edit(tmp_path / "a.h5") as e:
        with pytest.raises(archive.ArchiveError, match=r"an? MetricRecord has that name"):
            e["m", "w"] = np.zeros(1)
        with pytest.raises(archive.ArchiveError, match=r"an? ArrayRecord has that name"):
            e.configs["a"] = {}


def test_values_are_checked_when_they_are_set(path: Path) -> None:
    with edit(path) as e:
        with pytest.raises(TypeError):
            e.metrics["fit"] = {"name": "text"}
        with pytest.raises(KeyError, match="did you mean 'metrics'"):
            e.metrics["metric"]
        with pytest.raises(KeyError, match="no record 'rum'"):
            del e.configs["rum"]
        assert dict(e.metrics) == {"metrics": {"loss": 0.5}}
        assert len(e.configs) == 1


def test_members_with_a_prefix_stay(path: Path, tmp_path: Path) -> None:
    crafted = Crafted(path)
    crafted.document |= {"org.example.note": {"by": ["us", 1.5]}, "later": 1}
    crafted.write(path)
    with edit(path) as e:
        e["wte"] = np.zeros(1)
    found = Crafted(path).document
    assert found["org.example.note"] == {"by": ["us", 1.5]}
    assert "later" not in found
    assert archive.verify(path).ok


def test_members_of_a_context_with_a_prefix_stay(tmp_path: Path) -> None:
    archive.save(CONTAINERS["context"](), path := tmp_path / "c.h5")
    crafted = Crafted(path)
    crafted.document["context"]["org.example.note"] = [1]
    crafted.write(path)
    with edit(path) as e:
        e["a", "w"] = np.zeros(1)
    assert Crafted(path).document["context"]["org.example.note"] == [1]
    assert archive.verify(path).ok


def test_progress(path: Path) -> None:
    told: list[tuple[int, int]] = []
    with edit(path, progress=lambda done, total: told.append((done, total))) as e:
        del e["step"]
    assert told[-1] == (path.stat().st_size, path.stat().st_size)


@pytest.mark.parametrize("key", ["wte", "large"])
def test_a_damaged_source_is_not_published(path: Path, key: str, tmp_path: Path) -> None:
    damage(path, key)
    before = path.read_bytes()
    for out in (None, tmp_path / "out.h5"):
        with pytest.raises(archive.errors.DigestError, match=f"model/{key}"), edit(path, out) as e:
            e["step"] = np.array(8)
    assert path.read_bytes() == before
    assert litter(path.parent, path.name) == []
    with edit(path) as e:  # what is damaged may be replaced
        del e["lm_head"]
        e[key] = np.zeros(2)
    assert archive.verify(path).ok


@pytest.mark.parametrize("key", ["wte", "large"])
def test_bytes_that_are_damaged_after_they_were_read(path: Path, key: str) -> None:
    e = edit(path)
    e[key].numpy()
    damage(path, key)
    e["step"] = np.array(8)
    with pytest.raises(archive.errors.DigestError, match=f"model/{key}"), e:
        pass
    assert not archive.verify(path).ok


def test_a_source_that_is_cut(path: Path) -> None:
    with pytest.raises(archive.ArchiveError) as caught, edit(path):
        os.truncate(path, offset_of(path, "large") + 1000)
    assert isinstance(caught.value, (archive.errors.TruncatedError, archive.errors.DigestError))
    assert litter(path.parent, path.name) == []


def test_an_archive_that_another_program_replaced(path: Path) -> None:
    e = edit(path)
    e["wte"] = np.zeros(1)
    archive.save({"w": np.ones(2)}, path)
    with pytest.raises(archive.errors.ReplacedError, match="another program replaced it"), e:
        pass
    assert keys(path) == ["w"]
    assert litter(path.parent, path.name) == []


def test_a_file_that_is_there_stays_with_overwrite_false(path: Path, tmp_path: Path) -> None:
    archive.save({"w": np.ones(2)}, tmp_path / "out.h5")
    with pytest.raises(FileExistsError), edit(path, tmp_path / "out.h5", overwrite=False):
        pass
    assert keys(tmp_path / "out.h5") == ["w"]


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system")
def test_to_another_file_system(path: Path) -> None:
    """The system copies nothing there: the bytes are read and written."""
    out = Path(f"/dev/shm/fedarchive-{os.getpid()}.h5")
    try:
        with edit(path, out):
            pass
        assert out.read_bytes() == path.read_bytes()
    finally:
        out.unlink(missing_ok=True)


def test_arrays_of_another_archive(path: Path, tmp_path: Path) -> None:
    archive.save({"big": LARGE, "small": np.arange(3)}, tmp_path / "other.h5")
    with archive.open(tmp_path / "other.h5") as other, edit(path) as e:
        for name in other:
            e[name] = other[name]
    loaded = model_of(path)
    assert np.array_equal(loaded["big"].numpy(), LARGE)
    assert loaded["small"].numpy().tolist() == [0, 1, 2]


@pytest.mark.needs("os.fork")
def test_the_child_of_a_fork_publishes_nothing(path: Path) -> None:
    before = path.read_bytes()
    with edit(path) as e:
        del e["wte"]
        pid = os.fork()
        if not pid:
            try:
                e.__exit__(None, None, None)
                os._exit(path.read_bytes() != before)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert "wte" not in keys(path)


def test_remote_sources_and_targets(path: Path, tmp_path: Path, server: S3Server) -> None:
    options = server.options()
    url = f"s3://{BUCKET}/edit-{os.getpid()}.h5"
    with edit(path, url, out_options=options) as e:
        e["step"] = np.array(8)
    with edit(url, storage_options=options) as e:
        assert e["wte"].shape == (3, 4)
        e["step"] = np.array(9)
        e.cast("float16", "large")
    with edit(url, tmp_path / "back.h5", storage_options=options) as e:
        e.cast("float16", "wte")
    with edit(path) as e:
        e["step"] = np.array(9)
        e.cast("float16", ["large", "wte"])
    assert (tmp_path / "back.h5").read_bytes() == path.read_bytes()


def test_small_remote_arrays_are_fetched_together(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path / "store")
    reach(store, monkeypatch)
    with edit(path, "folder://a.h5") as e:
        for number in range(500):
            e[f"layer{number}"] = np.full(100, number, "f4")
    before = store.counted()
    for cast in (None, "float16"):
        with edit("folder://a.h5", tmp_path / "out.h5") as e:
            e["step"] = np.array(8)
            if cast:
                e.cast(cast)
    assert store.counted() - before <= 12
    assert archive.verify(tmp_path / "out.h5").ok
    assert model_of(tmp_path / "out.h5")["layer499"].numpy().tolist() == [499] * 100


CASTING = """
import resource, sys
import numpy as np
import archive
from archive.tools import edit
path, rows = sys.argv[1], 1 << 20
with archive.create(path, durable=False) as writer:
    pieces = (np.full(rows, n, "f4") for n in range(24))
    writer.add("model", "w", pieces, shape=(24 * rows,), dtype="f4")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with edit(path, durable=False) as e:
    e.cast("bfloat16")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.needs("/proc")
def test_a_cast_takes_little_memory(tmp_path: Path) -> None:
    """An array of 96 MiB, of which 4 MiB are converted at a time, in threads that wait for no others."""
    command = [sys.executable, "-c", CASTING, str(tmp_path / "m.h5")]
    done = subprocess.run(command, env=child_environment(), check=True, capture_output=True, text=True)
    assert int(done.stdout) < 60 << 10
    found = model_of(tmp_path / "m.h5")["w"]
    assert found.dtype == "bfloat16"
    assert found[-1] == 23
