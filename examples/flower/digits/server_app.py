"""The server: FedAdam, and a test set of its own."""

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAdam

from archive.interop.flower import Resumable  # fedarchive
from digits.task import RUNS, evaluate, load_data, make_model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds that are not done yet."""
    config = context.run_config
    strategy = FedAdam(eta=0.02)
    # fedarchive: every round is saved; the same command goes on after the newest round
    strategy = Resumable(strategy, RUNS, best_by="-server/accuracy", deterministic=True)

    result = strategy.start(
        grid,
        ArrayRecord({name: Array(layer) for name, layer in make_model().items()}),
        num_rounds=config["num-server-rounds"],
        train_config=ConfigRecord({"lr": config["learning-rate"], "epochs": config["local-epochs"]}),
        evaluate_fn=central_evaluate,
    )
    print("accuracy by round:", [m["accuracy"] for m in result.evaluate_metrics_serverapp.values()])


def central_evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Evaluate the global model on the server's test set."""
    model = {name: array.numpy() for name, array in arrays.items()}
    loss, accuracy = evaluate(model, *load_data(partition=1_000_000, examples=1000))
    return MetricRecord({"loss": loss, "accuracy": accuracy})
