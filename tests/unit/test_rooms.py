"""How `src/dq` is laid out: which package may import which, that none of them has a cycle, and that
the core is pure."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dq

PACKAGE = Path(dq.__file__).parent

#: From the ground up: each imports only from those before it.
ROOMS = [
    "errors",
    "_support",
    "core",
    "functions",
    "security",
    "data",
    "transport",
    "journal",
    "dispatch",
    "manager",
    "service",
    "worker",
    "master",
    "cli",
    "__main__",
]
#: Besides the standard library: what each module may import.
THIRD_PARTY = {
    "dq.cli": {"click"},
    "dq.functions.by_value": {"cloudpickle"},
}
#: What a core that is given the time, and is locked by others, has no use for.
IMPURE = {"_thread", "asyncio", "datetime", "io", "multiprocessing", "os", "pathlib", "random"} | {
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
}


def modules() -> dict[str, Path]:
    """All of dq's, by their names."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("dq", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """The modules that one imports, wherever in it, but for what only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relative to itself"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def room(module: str) -> str:
    """The package within dq that a module belongs to, or itself."""
    return module.split(".")[1]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_the_packages_below(module: str) -> None:
    own = {name for name in imports(MODULES[module]) if name.partition(".")[0] == "dq"} - {"dq"}
    if module == "dq":  # the public names; everything else in it is loaded when first used
        assert own == {"dq.errors"}
        return
    for name in own:
        assert ROOMS.index(room(name)) <= ROOMS.index(room(module)), f"{module} imports {name}"


@pytest.mark.parametrize("package", ROOMS)
def test_within_a_package_no_import_leads_back(package: str) -> None:
    own = {module for module in MODULES if module != "dq" and room(module) == package}
    graph = {module: own.intersection(imports(MODULES[module])) - {module} for module in own}
    TopologicalSorter(graph).prepare()  # which raises CycleError, naming the modules


@pytest.mark.parametrize("module", MODULES)
def test_a_module_needs_nothing_but_the_standard_library_and_click(module: str) -> None:
    owners = [module, module.rpartition(".")[0]]
    allowed = {"dq", *sys.stdlib_module_names}.union(*(THIRD_PARTY.get(o, ()) for o in owners))
    assert {name.partition(".")[0] for name in imports(MODULES[module])} <= allowed


@pytest.mark.parametrize("module", [module for module in MODULES if room(module + ".") == "core"])
def test_the_core_is_pure(module: str) -> None:
    names = {*imports(MODULES[module])}
    own = {name for name in names if name.partition(".")[0] == "dq"}
    assert all(room(name) in ("core", "errors") or name == "dq._support.frozen" for name in own)
    assert not IMPURE & {name.partition(".")[0] for name in names}
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = {node.id for node in called if isinstance(node, ast.Name)}
    assert not {"open", "print", "input"} & names


@pytest.mark.parametrize("package", [name for name in ROOMS if (PACKAGE / name).is_dir()])
def test_a_package_says_what_it_is_for_and_nothing_else(package: str) -> None:
    if package == "cli":  # has the command itself
        return
    tree = ast.parse((PACKAGE / package / "__init__.py").read_text(encoding="utf-8"))
    assert len(tree.body) == 1
    assert len((ast.get_docstring(tree) or "").splitlines()) == 1
