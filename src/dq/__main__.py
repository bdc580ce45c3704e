"""``python -m dq``, and the script ``dq``."""

import os
import sys

# The current directory, where a user's queue.py would hide the real one; commands that load a
# user's modules put it back.
if sys.path[:1] == [os.getcwd()]:
    del sys.path[0]


def main() -> None:
    """Run the command line; an interrupt while it is imported is one line too."""
    try:
        from dq.cli import main as run  # here, for the above

        run()
    except KeyboardInterrupt:
        print("dq: interrupted", file=sys.stderr)
        exec("")  # see `dq.cli.main`
        sys.exit(130)


if __name__ == "__main__":
    main()
