"""Which module may import which: only from the layers below its own, as the design has it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dq

PACKAGE = Path(dq.__file__).parent

#: From the bottom up. A module that is not here needs a place before it can be tested.
LAYERS = [
    {"naming", "hints"},
    {"errors", "light"},
    {"records", "screen", "spans", "units", "system", "logs", "lazy", "batching", "sqlitefile"}
    | {"roster", "forms", "unpickling"},
    {"references"},
    {"digests"},
    {"classes"},
    {"by_value"},
    {"board", "certs", "inputs", "keys", "tasks", "tls"},
    {
        "allow",
        "apart",
        "versions",
        "failures",
        "files",
        "outputs",
        "processes",
        "progress",
        "transport",
        "writer",
    },
    {"journal", "lines"},
    {"presence"},
    {"queues"},
    {"faces"},
    {"client", "manager", "salvage"},
    {"worker"},
    {"supervisor"},
    {"master"},
    {"api", "executor"},
    {"measure"},
    {"cli"},
    {"__main__"},
]
#: Besides the standard library: what each top-level name may come from.
THIRD_PARTY = {
    "certs": {"cryptography"},
    "cli": {"click"},
    "by_value": {"cloudpickle"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """The module's name, or that of the package within dq that it belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[str]:
    """All that a module imports, wherever in it, but for what only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relative to itself"
            names = (f"dq.{alias.name}" for alias in node.names)
            yield from names if node.module == "dq" else [str(node.module)]


def layer(name: str) -> int:
    for number, names in enumerate(LAYERS):
        if name in names:
            return number
    raise AssertionError(f"dq.{name} has no layer yet: give it one, here and in the design")


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_the_layers_below(path: Path) -> None:
    own = part(path)
    if own == "__init__":  # the public names; everything else in it is loaded when first used
        assert {name for name in imports(path) if name.startswith("dq")} == {"dq.errors"}
        return
    for name in imports(path):
        top, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if top == "dq" and other and other != own and not other.startswith("__"):
            assert layer(other) < layer(own), f"dq.{own} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_needs_nothing_but_the_standard_library_and_click(path: Path) -> None:
    allowed = {"dq", *sys.stdlib_module_names, *THIRD_PARTY.get(part(path), set())}
    assert {name.partition(".")[0] for name in imports(path)} <= allowed
