"""One module for each toolkit.

Each has `available()`, which returns why it cannot take part, or None; `version()`; and
`CONTENDERS`, its settings. What it needs is imported in its functions, since it may not be there.
"""

from __future__ import annotations

import importlib
from types import ModuleType

STANDARD = ("dq_", "pool", "executor", "recipe")
OUTSIDE = ("joblib_", "mpire_", "dask_", "ipyparallel_", "huey_", "celery_", "dramatiq_", "rq_")


def load(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.peers.{name}")


def missing(*modules: str) -> str | None:
    """Why a peer that needs these modules cannot take part."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            return f"not installed ({error}); the bench extra has it"
    return None
