"""A project of hazards, and random moments that can be had again."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.scene import Hazards


@pytest.fixture
def hazards(tmp_path: Path) -> Hazards:
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(Path(__file__).parent / "hazards.py", folder / "hazards.py")
    return Hazards(folder, tmp_path / "log", tmp_path / "gate")


@pytest.fixture
def seeded() -> random.Random:
    """Random moments, the same again with DQ_TEST_SEED set to what was printed."""
    seed = int(os.environ.get("DQ_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"DQ_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("only root can mount a small tmpfs, and only on Linux")
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    mounted = subprocess.run(argv, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
