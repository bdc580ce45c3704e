"""`docs/architecture.md` names what is there: packages in their order, files, functions, tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import dq
from support import ROOT

SOURCE = Path(dq.__file__).parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
#: `core/board.py`, `core/board.py:Board.lease`, `tests/support/fakes.py`, `errors.py`
PLACE = re.compile(r"(?<![\w/.])(?P<file>(?:\w+/)*\w+\.py)(?::(?P<name>\w+(?:\.\w+)*))?")


def places() -> list[tuple[str, str]]:
    return sorted({(found["file"], found["name"] or "") for found in PLACE.finditer(PAGE)})


def file_of(place: str) -> Path:
    return (ROOT if place.startswith(("tests/", "docs/")) else SOURCE) / place


def names_in(path: Path) -> set[str]:
    """Functions, classes with their methods and fields, and constants of a module."""
    return set(_names(ast.parse(path.read_text(encoding="utf-8")).body))


def _names(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield prefix + name
            case ast.ClassDef(name=name):
                yield prefix + name
                yield from _names(node.body, f"{prefix}{name}.")
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name


def test_what_the_page_names_is_there() -> None:
    for file, name in places():
        assert file_of(file).is_file(), f"no {file}"
        assert not name or name in names_in(file_of(file)), f"no {name} in {file}"


def packages() -> dict[str, str]:
    """The table of packages: what each is for, in the words of the page."""
    return dict(re.findall(r"^\| `(\w+)/` \| (.*?) \|", PAGE, re.M))


def test_the_page_has_every_package_and_says_of_each_what_its_first_line_says() -> None:
    there = {path.parent.name: path for path in SOURCE.glob("*/__init__.py")}
    assert packages().keys() == there.keys()
    for package, says in packages().items():
        doc = ast.get_docstring(ast.parse(there[package].read_text(encoding="utf-8"))) or ""
        assert says == doc.splitlines()[0]


def test_the_packages_stand_in_their_order() -> None:
    rooms = (ROOT / "tests/unit/test_rooms.py").read_text(encoding="utf-8")
    order = re.findall(r'^    "(\w+)",$', rooms, re.M)
    listed = list(packages())
    assert listed == [package for package in order if package in listed]
