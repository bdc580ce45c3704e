"""Tasks of `test_api_executor.py`."""

from __future__ import annotations

import time
from pathlib import Path


def hold(folder: Path) -> None:
    (folder / "held").touch()
    from support import wait_until  # not above: most tasks do without

    wait_until((folder / "go").exists)


def slowly(x: int) -> int:
    time.sleep(0.1)
    return x
