"""``python -m dq``."""

import os
import sys

# The current directory, where a user's queue.py would hide the real one; commands that load a
# user's modules put it back.
if sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

from dq.cli import main  # after the above, which it is about

if __name__ == "__main__":
    main()
