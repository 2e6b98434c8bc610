"""How far a client went, against numpy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import archive
from archive.report.clientfigures import LAYERS, ClientFigures, GlobalModels, measure_client
from tests.report.samples import NAN, save_run

Arrays = dict[str, Any]


def measured(
    folder: Path, sent: Arrays, base: Arrays | None, new: Arrays, *, by_layer: bool = False
) -> ClientFigures:
    handles = []
    for name, arrays in (("sent", sent), ("base", base), ("new", new)):
        if arrays is not None:
            archive.save(arrays, folder / f"{name}.h5", durable=False)
        handles.append(None if arrays is None else archive.open(folder / f"{name}.h5"))
    client, before, after = handles
    assert client is not None
    assert after is not None
    found = measure_client(client, GlobalModels(before, after, by_layer=by_layer))
    for handle in handles:
        if handle is not None:
            handle.close()
    return found


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, "i4", "c8"])
def test_against_numpy(tmp_path: Path, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    base, new, sent = (rng.normal(0, 9, (30, 7)).astype(np.dtype(dtype)) for _ in range(3))
    found = measured(tmp_path, {"w": sent}, {"w": base}, {"w": new})
    wide = np.complex128 if np.dtype(dtype).kind == "c" else np.float64
    base, new, sent = (array.astype(wide).reshape(-1) for array in (base, new, sent))
    update, step = sent - base, new - base
    assert found.sent == pytest.approx(np.linalg.norm(sent))
    assert found.update == pytest.approx(np.linalg.norm(update))
    assert found.relative == pytest.approx(np.linalg.norm(update) / np.linalg.norm(base))
    product = np.vdot(update, step).real
    assert found.cosine == pytest.approx(product / np.linalg.norm(update) / np.linalg.norm(step))
    assert found.odd == {}


def test_what_is_not_finite_is_counted_and_left_out(tmp_path: Path) -> None:
    sent = {"w": np.array([3.0, np.nan, np.inf, 4.0]), "b": np.array([1.0])}
    base = {"w": np.array([0.0, 0.0, 0.0, np.nan]), "b": np.array([1.0])}
    new = {"w": np.array([1.0, 1.0, 1.0, 1.0]), "b": np.array([1.0])}
    found = measured(tmp_path, sent, base, new)
    assert found.odd == {("model", "w"): 2}
    assert found.sent == pytest.approx(math.sqrt(9 + 16 + 1))
    assert (found.update, found.cosine) == (3.0, 1.0)


def test_without_a_base_there_is_no_update(tmp_path: Path) -> None:
    found = measured(tmp_path, {"w": np.array([3.0, 4.0])}, None, {"w": np.zeros(2)})
    assert found.sent == 5.0
    assert math.isnan(found.update)
    assert math.isnan(found.cosine)


def test_other_shapes_and_names_are_not_compared(tmp_path: Path) -> None:
    model = {"w": np.zeros(2), "v": np.zeros(3), "name": np.array(["text"])}
    found = measured(tmp_path, {"w": np.ones(4), "other": np.ones(9)}, model, model)
    assert found.sent == 2.0
    assert math.isnan(found.update)
    found = measured(tmp_path, {"w": np.ones(4), "v": np.full(3, 2.0)}, model, model)
    assert found.update == pytest.approx(math.sqrt(12))
    assert math.isnan(found.relative)


def test_layers_against_numpy(tmp_path: Path) -> None:
    store = save_run(tmp_path / "run", rounds=2)
    with store.open(1) as base, store.open(2) as new, store.open(2, NAN) as client:
        models = GlobalModels(base, new, by_layer=True)
        layers = measure_client(client, models).layers
        assert layers is not None
        assert models.layers == [
            "embed.weight",
            "layers.0.weight",
            "layers.0.scale",
            "layers.1.weight",
            "steps",
        ]
        for place, key in enumerate(models.layers):
            before, after, sent = (
                handle[key].numpy().astype("f8").reshape(-1) for handle in (base, new, client)
            )
            finite = np.isfinite(sent)
            update, step = (sent - before)[finite], (after - before)[finite]
            assert layers.odd[place] == np.count_nonzero(~finite)
            assert layers.update[place] == pytest.approx(np.linalg.norm(update))
            assert layers.relative[place] == pytest.approx(
                np.linalg.norm(update) / np.linalg.norm(before[finite])
            )
            cosine = update @ step / np.linalg.norm(update) / np.linalg.norm(step)
            assert layers.cosine[place] == pytest.approx(cosine)


def test_layers_that_cannot_be_compared(tmp_path: Path) -> None:
    model = {"w": np.ones(2), "v": np.ones(3), **{f"b.{place}.w": np.ones(2) for place in range(70)}}
    sent = {"v": np.full(3, 3.0), "b.0.w": np.full(2, 2.0), "w": np.ones(9)}
    found = measured(tmp_path, sent, model, model, by_layer=True).layers
    assert found is not None
    assert found.update[1] == pytest.approx(math.sqrt(12))
    assert found.relative[1] == pytest.approx(2.0)
    assert np.isnan(found.cosine).all()  # the model made no step
    assert np.isnan(found.update[0])  # of another shape
    assert len(found.update) <= LAYERS


def test_lengths_beyond_the_root_of_the_largest_number(tmp_path: Path) -> None:
    model, step = {"w": np.zeros(2)}, {"w": np.full(2, 1e100)}
    assert measured(tmp_path, step, model, step).cosine == pytest.approx(1.0)


def test_a_store_says_the_same(tmp_path: Path) -> None:
    store = save_run(tmp_path / "run", rounds=2)
    drift = store.updates(1).drift()
    with store.open(0) as base, store.open(1) as new:
        models = GlobalModels(base, new)
        for place, name in enumerate(drift["client"]):
            with store.open(1, name) as client:
                found = measure_client(client, models)
            assert found.update == pytest.approx(drift["norm"][place])
            assert found.relative == pytest.approx(drift["relative"][place])
            assert found.cosine == pytest.approx(drift["cosine"][place])
