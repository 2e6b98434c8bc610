"""A SCAFFOLD client with data of its own."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import flwr
import numpy as np
import torch
from fl4health.checkpointing.client_module import ClientCheckpointAndStateModule
from fl4health.clients.scaffold_client import ScaffoldClient
from fl4health.metrics import Accuracy
from net import make_net
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from archive.interop.fl4health import ClientStateCheckpointer, ResumableClient  # fedarchive


class Hospital(ResumableClient, ScaffoldClient):  # fedarchive: ResumableClient first
    """A client as FL4Health wants it."""

    def get_model(self, config: dict[str, Any]) -> nn.Module:
        """Return the network."""
        return make_net()

    def get_optimizer(self, config: dict[str, Any]) -> torch.optim.Optimizer:
        """Return plain SGD, which SCAFFOLD needs."""
        return torch.optim.SGD(self.model.parameters(), lr=0.05)

    def get_criterion(self, config: dict[str, Any]) -> nn.Module:
        """Return the loss."""
        return nn.CrossEntropyLoss()

    def get_data_loaders(self, config: dict[str, Any]) -> tuple[DataLoader, DataLoader]:
        """Return data that differ from hospital to hospital."""
        draws = torch.Generator().manual_seed(sum(map(ord, self.client_name)))
        x = torch.randn(128, 8, generator=draws)
        data = TensorDataset(x, (x.sum(1) > draws.initial_seed() % 3 - 1).long())
        train, validation = torch.utils.data.random_split(data, [96, 32], draws)
        batch = config["batch_size"]
        return DataLoader(train, batch, shuffle=True), DataLoader(validation, batch)


def main() -> None:
    """Serve one server until it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="folder of the run, or any URL of fsspec; a client may have its own")
    parser.add_argument("name", help="name of the client, the same at every start")
    parser.add_argument("--address", default="127.0.0.1:8080")
    given = parser.parse_args()
    seed = sum(map(ord, given.name))
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    state = ClientStateCheckpointer(given.run)  # fedarchive
    client = Hospital(
        data_path=Path(),
        metrics=[Accuracy()],
        device=torch.device("cpu"),
        client_name=given.name,  # fedarchive: the states are found by it
        checkpoint_and_state_module=ClientCheckpointAndStateModule(state_checkpointer=state),  # fedarchive
    )
    flwr.client.start_client(server_address=given.address, client=client.to_client())


if __name__ == "__main__":
    main()
