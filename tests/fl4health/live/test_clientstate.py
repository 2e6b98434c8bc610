"""One client in one process: which state it goes on from, and what it says where there is none."""

from __future__ import annotations

import logging
import os
import random
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fl4health")

import torch
from fl4health.checkpointing.client_module import ClientCheckpointAndStateModule
from fl4health.utils.parameter_extraction import get_all_model_parameters
from flwr.common import parameters_to_ndarrays

from archive.checkpoints.lineage import Line
from archive.errors import ExistsError, MissingError, ValueRangeError
from archive.interop.fl4health import ClientStateCheckpointer
from archive.interop.fl4health.instructions import KEY
from archive.interop.flower.orders import Order
from tests.fl4health.live.algorithms import (
    OwnClippingClient,
    configure,
    make_client,
    normed_net,
    plain_net,
)

WEIGHTS = parameters_to_ndarrays(get_all_model_parameters(normed_net()))
FIRST = Line("a" * 16)


@pytest.fixture(autouse=True)
def seeded() -> None:
    random.seed(1)
    torch.manual_seed(1)
    torch.set_num_threads(1)
    logging.getLogger("flwr").propagate = True


def client(folder: Path, name: str = "north", **more: Any) -> Any:
    return make_client("fedavg", name, ClientStateCheckpointer(folder / "run", **more), folder)


def message(line: Line, number: int, kept: tuple[int, ...] = (1, 2, 3)) -> dict[str, Any]:
    return {**configure(number), KEY: Order("default", line, number, kept).to_text()}


def train(client: Any, line: Line, number: int) -> list[bytes]:
    return [array.tobytes() for array in client.fit(WEIGHTS, message(line, number))[0]]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "run/default/contexts/north").iterdir())


def test_a_client_that_still_runs_goes_back_to_the_round_of_its_server(tmp_path: Path) -> None:
    north = client(tmp_path)
    expected = [train(north, FIRST, number) for number in (1, 2, 3)]
    again = FIRST.follow(1)  # the server was killed before it saved round 2
    assert train(north, again, 2) == expected[1]
    assert train(north, again, 3) == expected[2]


def test_a_client_that_still_runs_begins_anew_where_its_server_does(tmp_path: Path) -> None:
    north = client(tmp_path)
    expected = [train(north, FIRST, number) for number in (1, 2)]
    again = Line("b" * 16)
    assert [train(north, again, number) for number in (1, 2)] == expected
    assert north.total_epochs == 4


def test_a_state_of_a_killed_attempt_is_never_taken(tmp_path: Path) -> None:
    north = client(tmp_path)
    expected = train(north, FIRST, 1)
    train(north, FIRST, 5)  # and the server was killed in round 5, after it had saved round 4
    again = FIRST.follow(4)
    later = client(tmp_path)
    train(later, again, 7)  # the client is sampled again in round 7
    assert later.total_epochs == 4
    assert expected
    assert [name for name in files(tmp_path) if again.token in name] == [f"00000007-1-{again.token}.h5"]


def test_states_that_no_kept_round_goes_on_from_are_removed(tmp_path: Path) -> None:
    north = client(tmp_path)
    for number in range(1, 7):
        sent = message(FIRST, number, kept=tuple(range(max(1, number - 2), number)))
        north.fit(WEIGHTS, sent)
        north.evaluate(WEIGHTS, sent)
    assert files(tmp_path) == [f"0000000{number}-2-{FIRST.token}.h5" for number in (4, 5, 6)]


def test_a_client_that_should_have_a_state_says_that_it_has_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(client(tmp_path), FIRST.follow(3), 4)
    assert "client north: no state in this run, which was resumed after round 3" in caplog.text
    with pytest.raises(MissingError, match="client south: no state in this run"):
        train(client(tmp_path, "south", on_missing="error"), FIRST.follow(3), 4)


def test_a_damaged_state_is_said_and_an_earlier_one_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    north = client(tmp_path)
    for number in (1, 2):
        train(north, FIRST, number)
    path = tmp_path / "run/default/contexts/north" / files(tmp_path)[-1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    later = client(tmp_path)
    train(later, FIRST.follow(2), 3)
    assert later.total_epochs == 4
    assert "client north: " in caplog.text
    assert path.name in caplog.text
    with pytest.raises(ValueError, match=path.name):
        train(client(tmp_path, on_missing="error"), FIRST.follow(2), 3)


def test_two_clients_of_one_name_are_an_error(tmp_path: Path) -> None:
    one, two = client(tmp_path), client(tmp_path)
    train(one, FIRST, 1)
    with pytest.raises(
        ExistsError, match="another client called 'north' saved its state of training of round 1"
    ):
        train(two, FIRST, 1)


def test_a_message_that_comes_twice_is_answered_from_the_state_before_it(tmp_path: Path) -> None:
    north = client(tmp_path)
    train(north, FIRST, 1)
    second = train(north, FIRST, 2)
    assert train(north, FIRST, 2) == second
    assert f"00000002-1-{FIRST.token}-2.h5" in files(tmp_path)


def test_a_server_that_says_nothing_is_followed_by_rounds(tmp_path: Path) -> None:
    north = client(tmp_path)
    for number in (1, 2):
        north.fit(WEIGHTS, configure(number))
    later = client(tmp_path)
    later.fit(WEIGHTS, configure(3))
    assert later.total_epochs == 6
    assert files(tmp_path) == [f"0000000{number}-1.h5" for number in (1, 2, 3)]


def test_an_order_of_nobody_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueRangeError, match="no fedarchive server made"):
        client(tmp_path).fit(WEIGHTS, {**configure(1), KEY: "[]"})


def test_a_client_without_its_first_base_is_told_what_it_lacks(tmp_path: Path) -> None:
    class Forgetful:
        pass

    with pytest.raises(TypeError, match=r"class Forgetful\(ResumableClient, ...\)"):
        ClientStateCheckpointer(tmp_path).save_client_state(Forgetful())


def test_a_saved_state_is_seen_as_plain_values(tmp_path: Path) -> None:
    north = client(tmp_path)
    train(north, FIRST, 1)
    seen = ClientStateCheckpointer(tmp_path / "run", "north").load_checkpoint()
    assert seen["round"] == 1
    assert list(seen["model"]) == list(normed_net().state_dict())
    assert seen["attributes"]["total_epochs"] == 2
    reports = seen["attributes"]["reports_manager"]["reporters"][0]["metrics"]
    assert reports["rounds"][1]["fit_epoch"] == 2


def test_a_setting_that_the_script_changes_is_the_new_one(tmp_path: Path) -> None:
    north = client(tmp_path)
    train(north, FIRST, 1)
    later = client(tmp_path)
    later.progress_bar = True
    train(later, FIRST.follow(1), 2)
    assert later.progress_bar
    assert later.total_epochs == 4


def test_nothing_is_pickled(tmp_path: Path) -> None:
    train(client(tmp_path), FIRST, 1)
    (name,) = files(tmp_path)
    data = (tmp_path / "run/default/contexts/north" / name).read_bytes()
    assert b"fl4health.utils" not in data
    assert os.path.getsize(tmp_path / "run/default/contexts/north" / name) < 1_000_000


def test_a_rate_that_the_script_changes_is_the_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Slower(OwnClippingClient):
        def get_optimizer(self, config: Any) -> Any:
            return torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)

    def made(base: Any) -> Any:
        module = ClientCheckpointAndStateModule(state_checkpointer=ClientStateCheckpointer(tmp_path / "run"))
        given = {"data_path": tmp_path, "metrics": [], "device": torch.device("cpu"), "client_name": "north"}
        return base(checkpoint_and_state_module=module, **given)

    weights = [*parameters_to_ndarrays(get_all_model_parameters(plain_net())), torch.tensor(0.1).numpy()]
    made(OwnClippingClient).fit(weights, message(FIRST, 1))
    later, second = made(Slower), FIRST.follow(1)
    later.fit(weights, message(second, 2))
    assert later.optimizers["global"].param_groups[0]["lr"] == 0.01
    assert "lr of optimizer global was 0.05 and is 0.01 from here on" in caplog.text
    caplog.clear()
    made(Slower).fit(weights, message(second.follow(2), 3))
    assert "from here on" not in caplog.text


def test_training_by_steps_says_that_it_begins_a_new_pass(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def steps(line: Line, number: int) -> dict[str, Any]:
        sent = message(line, number)
        del sent["local_epochs"]
        return {**sent, "local_steps": 2}

    client(tmp_path).fit(WEIGHTS, steps(FIRST, 1))
    assert "begins a new pass" not in caplog.text
    client(tmp_path).fit(WEIGHTS, steps(FIRST.follow(1), 2))
    assert "client north trains by steps, and begins a new pass of its data" in caplog.text


def test_a_large_attribute_that_never_changes_is_said_once_and_can_be_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def made(folder: Path, **more: Any) -> Any:
        found = client(folder, **more)
        found.images = torch.zeros(5_000_000)
        return found

    (tmp_path / "less").mkdir()
    for one in (made(tmp_path), less := made(tmp_path / "less", exclude=["images"])):
        for number in (1, 2, 3):
            one.fit(WEIGHTS, message(FIRST, number))
    said = [record.message for record in caplog.records if "did not change" in record.message]
    (text,) = said
    assert text.startswith("fedarchive: images has 20 MB that did not change, and is saved every time")
    assert text.endswith("exclude=('images',) leaves it to the script")
    assert less.images.numel() == 5_000_000


def test_states_of_a_client_lie_behind_any_url(tmp_path: Path) -> None:
    url = "memory://hospital"

    def made() -> Any:
        return make_client("fedavg", "north", ClientStateCheckpointer(url), tmp_path)

    train(made(), FIRST, 1)
    later = made()
    train(later, FIRST.follow(1), 2)
    assert later.total_epochs == 4


def test_what_cannot_be_saved_is_an_error_that_names_it_and_nothing_is_written(tmp_path: Path) -> None:
    class Odd:
        def state_dict(self) -> dict[str, Any]:
            return {"hook": print}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            raise NotImplementedError

    north = client(tmp_path)
    north.odd = Odd()
    with pytest.raises(ValueRangeError, match="attributes/odd/state_dict/hook"):
        train(north, FIRST, 1)
    assert not (tmp_path / "run/default/contexts").exists()
