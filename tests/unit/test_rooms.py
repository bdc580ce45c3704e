"""How `src/dq` is laid out: which package may import which, that none of them has a cycle, and that
the core is pure."""

from __future__ import annotations

import ast
import functools
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


@functools.cache
def imports(module: str) -> frozenset[str]:
    """The modules that one imports, wherever in it, but for what only type checkers see."""
    return frozenset(_imports(MODULES[module]))


def _imports(path: Path) -> Iterator[str]:
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


def modules_of(package: str) -> set[str]:
    return {module for module in MODULES if module != "dq" and room(module) == package}


def own(module: str) -> set[str]:
    """The modules of dq that one imports."""
    return {name for name in imports(module) if name.partition(".")[0] == "dq"} - {"dq"}


def test_what_is_public_is_loaded_when_it_is_first_used() -> None:
    assert own("dq") == {"dq.errors"}


@pytest.mark.parametrize("package", ROOMS)
def test_a_package_imports_only_from_those_below(package: str) -> None:
    for module in modules_of(package):
        for name in own(module):
            assert ROOMS.index(room(name)) <= ROOMS.index(package), f"{module} imports {name}"


@pytest.mark.parametrize("package", ROOMS)
def test_within_a_package_no_import_leads_back(package: str) -> None:
    modules = modules_of(package)
    graph = {module: modules.intersection(imports(module)) - {module} for module in modules}
    TopologicalSorter(graph).prepare()  # which raises CycleError, naming the modules


def test_no_module_needs_anything_but_the_standard_library_click_and_cloudpickle() -> None:
    for module in MODULES:
        owners = [module, module.rpartition(".")[0]]
        allowed = {"dq", *sys.stdlib_module_names}.union(*(THIRD_PARTY.get(o, ()) for o in owners))
        assert {name.partition(".")[0] for name in imports(module)} <= allowed, module


@pytest.mark.parametrize("module", sorted(modules_of("core")))
def test_the_core_is_pure(module: str) -> None:
    for name in own(module):
        assert room(name) in ("core", "errors") or name == "dq._support.frozen"
    assert not IMPURE & {name.partition(".")[0] for name in imports(module)}
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


def test_a_file_and_a_class_are_of_a_size_that_can_be_read() -> None:
    for module, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 500, module
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno < 250, f"{module}.{node.name}"
