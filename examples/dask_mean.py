"""Average the clients of a round on a cluster of Dask, and say how far apart they are.

    python dask_mean.py runs/adam 80 mean.h5 --weights num-examples
    python dask_mean.py s3://bucket/runs/adam 80 mean.h5 --scheduler tcp://host:8786

The mean is that of `archive.mean`: tasks get names of archives and return names of partial sums, never
arrays, and the bits are those of one process. The median of the clients, which no outlier moves, is taken of
lazy arrays, chunk by chunk. Needs `pip install 'fedarchive[dask]'`.
"""

from __future__ import annotations

import argparse

import numpy as np
from distributed import Client

import archive
from archive.interop.dask import stack


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("round", type=int)
    parser.add_argument("out")
    parser.add_argument("--weights", help="the metric that weighs a client")
    parser.add_argument("--scheduler", help="of a cluster that runs; else one is started here")
    parser.add_argument("--batch", type=int, default=64, help="archives of one task")
    options = parser.parse_args()
    store = archive.CheckpointStore(options.run)
    clients = f"{options.run.rstrip('/')}/rounds/{options.round:08}/*.h5"
    here = {} if options.scheduler else {"n_workers": 2, "threads_per_worker": 1}
    with Client(options.scheduler, **here) as cluster:
        executor = cluster.get_executor()
        report = archive.mean(
            clients, weights=options.weights, out=options.out, executor=executor, batch=options.batch
        )
        print(f"mean of {report.inputs} clients in {options.out}")
        with archive.open(options.out) as mean:
            for record, key in mean:
                layers = stack(store.stack((record, key), round=options.round), chunks={0: -1})
                apart = np.abs(np.median(layers, axis=0) - mean[record, key].numpy()).max().compute()
                print(f"{key}: median and mean are at most {apart:.3g} apart")


if __name__ == "__main__":
    main()
