"""A program: lines of a file to `multiprocessing.Pool`, results to another.

    python -m benchmarks.peers.pool_files FROM TO CHUNK WORKERS

It is what somebody without dq would write. Without workers it is a plain loop.
"""

from __future__ import annotations

import multiprocessing
import sys

from benchmarks.functions import square_line


def main(source: str, target: str, chunk: int, workers: int) -> None:
    with open(source, encoding="utf-8") as lines, open(target, "w", encoding="utf-8") as results:
        if not workers:
            results.writelines(map(square_line, lines))
            return
        with multiprocessing.Pool(workers) as pool:
            results.writelines(pool.imap(square_line, lines, chunk))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
