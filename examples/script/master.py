"""Gives out ten tasks to whichever workers connect, and prints the results."""

import os

import dq

PORT = int(os.environ.get("DQ_MASTER_PORT", "5000"))


def square(n):
    return n * n


print(dq.run_master(square, range(10), port=PORT, authkey=b"abc"))
