"""HDF5 files of other programs, and Keras's weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

import archive
from archive.errors import NotAnArchiveError, ValueRangeError
from archive.tools import convert
from tests.children import child_environment


def keras_like(path: Path) -> None:
    """Write a file with the groups and attributes of ``Model.save_weights`` of Keras 3."""
    with h5py.File(path, "w") as file:
        for layer, arrays in {"conv2d": 2, "dense": 2, "flatten": 0, "batch_normalization": 4}.items():
            group = file.create_group(f"layers/{layer}/vars")
            group.attrs["name"] = layer
            for number in range(arrays):
                group[str(number)] = np.full((3, number + 1), number, "f4")
        file.create_group("vars").attrs["name"] = "sequential"
        group = file.create_group("optimizer/vars")
        group.attrs["name"] = "adam"
        for number in range(14):
            group[str(number)] = np.int32(number) if number < 2 else np.full(5, number, "f4")


def tree_of(path: Path) -> dict[str, Any]:
    """Return groups with attributes and datasets with elements, as h5py reads them."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        elements = item[()] if isinstance(item, h5py.Dataset) else None
        shown = None if elements is None else (elements.dtype.str, elements.shape, elements.tobytes())
        found[name] = dict(item.attrs), shown

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def test_weights_of_keras_come_back_with_their_groups(tmp_path: Path) -> None:
    keras_like(tmp_path / "k.weights.h5")
    there = convert(tmp_path / "k.weights.h5", tmp_path / "k.h5")
    assert (there.format, there.arrays, there.lossless) == ("keras", 22, True)
    with archive.open(tmp_path / "k.h5") as handle:
        assert handle["layers/dense/vars", "1"].shape == (3, 2)
        assert handle.records.config_records["layers/flatten/vars"] == {"name": "flatten"}
    back = convert(tmp_path / "k.h5", tmp_path / "back.weights.h5")
    assert (back.to, back.arrays, back.lossless) == ("keras", 22, True)
    assert tree_of(tmp_path / "back.weights.h5") == tree_of(tmp_path / "k.weights.h5")


def test_bfloat16_has_the_attribute_by_which_keras_knows_it(tmp_path: Path) -> None:
    weights = np.arange(4).astype(ml_dtypes.bfloat16)
    archive.save(
        {"0": weights, "f8": weights.astype(ml_dtypes.float8_e5m2)}, tmp_path / "m.h5", name="dense/vars"
    )
    report = convert(tmp_path / "m.h5", tmp_path / "m.weights.h5")
    assert report.left_out == (("dense/vars/f8", "Keras has no element type for float8_e5m2"),)
    with h5py.File(tmp_path / "m.weights.h5") as file:
        dataset = file["dense/vars/0"]
        assert dataset.attrs["dtype"] == "bfloat16"
        np.testing.assert_array_equal(np.array(dataset, ml_dtypes.bfloat16), weights)


def test_any_hdf5_file_becomes_an_archive(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "any.h5", "w") as file:
        file["top"] = np.arange(3)
        file.create_dataset("deep/er/packed", data=np.ones((100, 10)), chunks=(10, 10), compression="gzip")
        file["deep/er"].attrs["lr"] = 0.5
        file["text"] = np.array(["a", "bb"], object)
    report = convert(tmp_path / "any.h5", tmp_path / "any-archive.h5")
    assert (report.format, report.to) == ("hdf5", "archive")
    with archive.open(tmp_path / "any-archive.h5") as handle:
        np.testing.assert_array_equal(handle["deep/er", "packed"].numpy(), np.ones((100, 10)))
        np.testing.assert_array_equal(handle["top"].numpy(), np.arange(3))
    assert archive.verify(tmp_path / "any-archive.h5").ok


def test_what_is_no_hdf5_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.weights.h5").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(NotAnArchiveError):
        convert(tmp_path / "no.weights.h5", tmp_path / "m.h5")
    assert os.listdir(tmp_path) == ["no.weights.h5"]


def test_a_record_with_arrays_in_another_is_refused(tmp_path: Path) -> None:
    with archive.create(tmp_path / "m.h5") as writer:
        writer.add("dense", "w", np.ones(2))
        writer.add("dense/inner", "w", np.ones(2))
    with pytest.raises(ValueRangeError, match="other records lie"):
        convert(tmp_path / "m.h5", tmp_path / "m.weights.h5")
    assert os.listdir(tmp_path) == ["m.h5"]


KERAS = """
import sys
import numpy as np
import keras
from archive.tools import convert
folder = sys.argv[1]
layers = keras.layers
inputs = keras.Input((8, 8, 1))
dense = layers.Dense(6, dtype=sys.argv[2])
inner = keras.Sequential([keras.Input((36,)), dense, layers.Dropout(0.5)])
normal = layers.BatchNormalization()(layers.Conv2D(1, 3)(inputs))
outputs = layers.Dense(2)(inner(layers.Reshape((36,))(normal)))
model = keras.Model(inputs, outputs)
model.compile("adam", "mse")
rng = np.random.default_rng(0)
model.fit(rng.normal(size=(16, 8, 8, 1)), rng.normal(size=(16, 2)), verbose=0)
elements = lambda: [keras.ops.convert_to_numpy(v) for v in [*model.variables, *model.optimizer.variables]]
before = elements()
model.save_weights(f"{folder}/k.weights.h5")
assert convert(f"{folder}/k.weights.h5", f"{folder}/k.h5").lossless
assert convert(f"{folder}/k.h5", f"{folder}/back.weights.h5").lossless


def loaded(name):
    for variable in [*model.variables, *model.optimizer.variables]:
        variable.assign(np.ones(variable.shape, variable.dtype))
    model.load_weights(f"{folder}/{name}.weights.h5")
    return elements()


same = lambda one, other: [a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(one, other)]
theirs, ours = loaded("k"), loaded("back")
assert all(same(theirs, ours)), "other elements than from Keras's own file"
assert sum(same(before, ours)) >= 20, "what was trained is not there"  # metrics are not among weights
print("loaded", len(ours))
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_keras_loads_its_weights_back(tmp_path: Path, dtype: str) -> None:
    """FEDARCHIVE_KERAS names a Python with Keras and a backend, such as jax."""
    python = os.environ.get("FEDARCHIVE_KERAS", sys.executable)
    environment = child_environment(KERAS_BACKEND=os.environ.get("KERAS_BACKEND", "jax"))
    asked = subprocess.run([python, "-c", "import keras"], capture_output=True, check=False, env=environment)
    if asked.returncode:
        pytest.skip("Keras is not installed; FEDARCHIVE_KERAS names a Python that has it")
    command = [python, "-c", KERAS, str(tmp_path), dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "loaded" in done.stdout


def test_attributes_of_datasets_are_counted_as_left_out(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.nc", "w") as file:
        file["t"] = file["same"] = file.create_dataset("first", data=np.arange(3, dtype="i2"))
        file["t"].attrs.update({"scale_factor": 0.1, "shape": "round"})
        file["plain"] = np.ones(2)
    report = convert(tmp_path / "m.nc", tmp_path / "m.h5")
    assert report.arrays == 4
    assert report.left_out == (("2 attributes or datasets", "values that no archive holds"),)
