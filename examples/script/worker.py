"""Works for the master on this machine until it has finished; start as many as you like."""

import os

import dq

PORT = int(os.environ.get("DQ_MASTER_PORT", "5000"))

if __name__ == "__main__":
    dq.run_worker("127.0.0.1", port=PORT, authkey=b"abc", processes=2)
