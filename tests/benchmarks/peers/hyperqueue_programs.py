"""A program: as many times `true` as there are lines on standard input, by HyperQueue.

python -m benchmarks.peers.hyperqueue_programs WORKERS < LINES
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def main(cores: int, count: int) -> None:
    from hyperqueue import Job, LocalCluster
    from hyperqueue.cluster import WorkerConfig

    with tempfile.TemporaryDirectory() as folder, LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=cores))
        client = cluster.client()
        job = Job(default_workdir=Path(folder))
        for _ in range(count):
            job.program(["true"])
        client.wait_for_jobs([client.submit(job)])


if __name__ == "__main__":
    main(int(sys.argv[1]), len(sys.stdin.readlines()))
