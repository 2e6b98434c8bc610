"""Load the best model of the run and evaluate it."""

from digits.task import RUNS, evaluate, load_data

from archive import CheckpointStore

with CheckpointStore(RUNS).open("best") as best:
    model = {name: array.numpy() for name, array in best.records.array_records["model"].items()}
loss, accuracy = evaluate(model, *load_data(partition=1_000_000, examples=1000))
print(f"best model of {RUNS}: loss {loss:.4f}, accuracy {accuracy:.3f}")
