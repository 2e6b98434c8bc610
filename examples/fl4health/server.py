"""A SCAFFOLD server. Kill it and its clients whenever you like, and start them again as before."""

from __future__ import annotations

import argparse
import hashlib

import flwr
from fl4health.checkpointing.server_module import ScaffoldServerCheckpointAndStateModule
from fl4health.client_managers.fixed_without_replacement_manager import FixedSamplingByFractionClientManager
from fl4health.servers.scaffold_server import ScaffoldServer
from fl4health.strategies.scaffold import Scaffold
from fl4health.utils.parameter_extraction import get_all_model_parameters
from net import configure, make_net

from archive.interop.fl4health import ServerStateCheckpointer  # fedarchive


def main() -> None:
    """Run the rounds that are left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="folder of the run, or any URL of fsspec")
    parser.add_argument("--address", default="127.0.0.1:8080")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    net = make_net()
    strategy = Scaffold(
        initial_parameters=get_all_model_parameters(net),
        model=net,
        min_available_clients=2,
        on_fit_config_fn=configure,
        on_evaluate_config_fn=configure,
    )
    state = ServerStateCheckpointer(given.run, "scaffold")  # fedarchive
    module = ScaffoldServerCheckpointAndStateModule(model=net, state_checkpointer=state)  # fedarchive
    server = ScaffoldServer(
        client_manager=FixedSamplingByFractionClientManager(),
        fl_config={},
        strategy=strategy,
        checkpoint_and_state_module=module,  # fedarchive
    )
    config = flwr.server.ServerConfig(num_rounds=given.rounds)
    history = flwr.server.start_server(server_address=given.address, server=server, config=config)
    digest = hashlib.sha256(b"".join(server.parameters.tensors)).hexdigest()
    print(f"losses {[loss for _, loss in history.losses_distributed]}")
    print(f"parameters {digest}")


if __name__ == "__main__":
    main()
