"""The JSON of the page."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import archive
from archive.report.excerpts import known, number
from archive.report.pagedata import Limits, as_json, page_data
from archive.report.runfigures import RunFigures, measure_archive_alone, measure_run
from tests import hostiletexts
from tests.report.samples import FAR, NAN, save_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFigures:
    store = save_run(tmp_path_factory.mktemp("page") / "run")
    return measure_run(store, rounds=50, clients=50, step=None)


def test_numbers() -> None:
    assert [number(value) for value in (0.1 + 0.2, 1 / 3, 3.0, math.nan, -math.inf)] == [
        0.3, 0.3333, 3, "nan", "-inf"
    ]  # fmt: skip
    assert number(10**400) == "inf"
    assert (number(None), known(math.nan)) == (None, None)


def test_nothing_ends_the_element() -> None:
    text = as_json({text: text for text in [*hostiletexts.ALL, "</script>", "]]>"]})
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text)["</script>"] == "</script>"


def test_layers_and_clients(run: RunFigures) -> None:
    (found,) = page_data([run], "t", Limits(100, 100))["runs"]
    layers, drift = found["layers"], found["drift"]
    assert layers["rounds"] == [0, 1, 2, 3]
    assert layers["names"][0] == "embed.weight"
    assert run.contents is not None
    assert layers["norms"][0][3] == number(run.contents.arrays[0].moments.norm)  # type: ignore[union-attr]
    assert drift["rounds"] == [1, 2, 3]
    assert drift["clients"] == [f"client-{place:02d}" for place in range(6)]
    assert [one["key"] for one in drift["measures"]] == ["update", "relative", "cosine", "sent", "odd"]
    update = drift["measures"][0]
    far, nan = drift["clients"].index(FAR), drift["clients"].index(NAN)
    assert {tuple(place) for place in update["outliers"]} >= {(far, 0), (far, 1), (far, 2)}
    assert drift["odd"][nan] == [0, 2, 0]
    assert drift["baseless"] == []
    json.dumps(found, allow_nan=False)


def test_layers_by_client(run: RunFigures) -> None:
    drift = page_data([run], "t", Limits(100, 100))["runs"][0]["layer_drift"]
    assert (drift["rounds"], drift["total"], len(drift["clients"])) == ([1, 2, 3], 3, 6)
    second = drift["of"][1]
    assert second["names"][0] == "embed.weight"
    far, nan = drift["clients"].index(FAR), drift["clients"].index(NAN)
    assert [0, far] in second["update"]["outliers"]
    assert second["odd"] == [[0, nan, 2]]
    sizes = second["relative"]["rows"][0]
    assert sizes[far] == max(sizes)
    assert all(-1 <= one <= 1 for row in second["cosine"]["rows"] for one in row if one is not None)


def test_layers_by_client_are_of_some_rounds(tmp_path: Path) -> None:
    found = measure_run(save_run(tmp_path, rounds=14), rounds=50, clients=3, step=None)
    drift = page_data([found], "t", Limits(100, 100))["runs"][0]["layer_drift"]
    assert (drift["rounds"], drift["total"]) == ([1, 4, 6, 9, 11, 14], 14)
    assert [len(one) for one in drift["of"][0]["cosine"]["rows"]] == [3] * 5


def test_arrays(run: RunFigures) -> None:
    arrays = page_data([run], "t", Limits(2, 100))["runs"][0]["arrays"]
    assert arrays["round"] == 3
    assert (arrays["total"], arrays["left"][0], len(arrays["key"])) == (5, 3, 2)
    arrays = page_data([run], "t", Limits(100, 6))["runs"][0]["arrays"]
    assert arrays["key"] == ["em...t", "la...t", "la...e", "la...t", "steps"]
    assert arrays["dtypes"] == ["float32", "float16", "float8_e4m3fn", "bfloat16", "int64"]
    assert arrays["shape"] == ["24 \N{MULTIPLICATION SIGN} 8", *["8 \N{MULTIPLICATION SIGN} 8", "8"][:1], "8",
                               "8 \N{MULTIPLICATION SIGN} 8", "5"]  # fmt: skip
    assert all(len(bars) in (0, 24) for bars in arrays["bars"][:4])
    assert arrays["bars"][4] == "_____"


def test_a_layer_of_zeros_and_text(tmp_path: Path) -> None:
    arrays = {"zero": np.zeros(3), "text": np.array(["a"]), "nan": np.array([np.nan]), "none": np.zeros(0)}
    archive.save(arrays, tmp_path / "a.h5", durable=False)
    with archive.open(tmp_path / "a.h5") as handle:
        figures = measure_archive_alone(handle)
    (found,) = page_data([figures], "t", Limits(100, 100))["runs"]
    assert (found["layers"], found["drift"]) == (None, None)
    assert found["arrays"]["norm"] == [0, None, "nan", "nan"]
    assert found["arrays"]["bars"] == ["_", "", "", ""]
    assert found["findings"] == [["odd", "arrays", "model/nan has 1 NaN or infinities"]]
