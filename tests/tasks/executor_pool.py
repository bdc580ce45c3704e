"""Tasks of `test_api_executor_pool.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def hold(folder: Path) -> None:
    (folder / "held").touch()
    from support import wait_until  # not above: most tasks do without

    wait_until((folder / "go").exists)


def write(path: Path, n: int) -> None:
    with path.open("a") as file:
        file.write(f"{n}\n")


def fail(*_: object) -> None:
    raise ValueError("no")


def fail_twice(folder: Path) -> int:
    count = len(list(folder.iterdir())) + 1
    (folder / str(count)).touch()
    if count < 3:
        raise ValueError(count)
    return count


def inverse(x: float) -> float:
    return 1 / x


class Leaving:
    """Ends the program where it is pickled, or unpickled."""

    def __init__(self, when: str) -> None:
        self.when = when

    def __reduce__(self) -> Any:
        if self.when == "pickled":
            raise SystemExit(1)
        return raise_exit, ()


def raise_exit() -> None:
    raise SystemExit(1)


class Interrupting:
    def __reduce__(self) -> Any:
        raise KeyboardInterrupt
