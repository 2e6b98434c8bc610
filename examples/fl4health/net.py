"""The network and the configuration, which the server and its clients share."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def make_net() -> nn.Module:
    """Return the network of the first round."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))


def configure(server_round: int) -> dict[str, Any]:
    """Return what the server tells its clients in a round."""
    return {"current_server_round": server_round, "local_epochs": 1, "batch_size": 16}
