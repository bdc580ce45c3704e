"""``python -m dq``."""

from dq.cli import main

if __name__ == "__main__":
    main()
