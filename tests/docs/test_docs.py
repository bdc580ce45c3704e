"""What the documentation says is so: its programs run, its links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from markdown_pages import Reader, matcher

from support import ROOT, dq

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = [
    path
    for path in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
]
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


#: Whose commands take ten seconds together.
LONG = {"tutorial.md", "how-to.md"}


def marked(page: Path) -> ParameterSet:
    marks = [pytest.mark.slow] if page.name in LONG else []
    return pytest.param(page, id=name_of(page), marks=marks)


@pytest.mark.parametrize("page", [marked(page) for page in PAGES])
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    Reader(tmp_path).follow(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.finditer(text):
        if "://" not in link["target"] and not link["target"].startswith("mailto:"):
            path, _, heading = link["target"].partition("#")
            target = page.parent / path if path else page
            assert target.exists(), f"{link[0]}: no {target}"
            assert not heading or heading in anchors(target), f"{link[0]}: no such heading"


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("mark", ["run", "test"])
def test_each_set_up_in_the_readme_is_one_line(mark: str) -> None:
    assert len(set_up(mark).splitlines()) == 1


def test_the_command_that_the_readme_sets_up_works() -> None:
    command = set_up("run").rpartition("&&")[2]
    program, *args = shlex.split(command)
    assert os.path.basename(program) == "dq"
    done = dq(*args, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def set_up(mark: str) -> str:
    """The block below ``<!-- mark -->`` in the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^<!-- {mark} -->\n```\w*\n(.*?)^```$", text, re.M | re.S)
    assert found, f"no <!-- {mark} -->"
    return found[1].strip()


# The reader itself: it must not pass what is wrong.


@pytest.mark.parametrize(
    "page",
    [
        "```console\n$ echo 1\n2\n```\n",
        "```console\n$ echo 1\n```\n",
        "```console\n$ echo 1\n1\n2\n```\n",
        "```console\n$ false\n```\n",
        "```console\none$ false\n```\n",
        "```python\nraise SystemExit(1)\n```\n",
        "```python\nprint(1)\n```\n```text\n2\n```\n",
        "```sh\ndq frobnicate\n```\n",
    ],
)
def test_the_reader_sees_what_is_not_as_the_page_says(page: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"line \d+"):
        Reader(tmp_path).follow(page)


def test_dots_stand_for_the_rest_of_a_line_and_alone_for_any_lines() -> None:
    assert matcher(["a...c", "...", "z"]).fullmatch("a b c\n1\n2\nz\n")
    assert not matcher(["a...", "z"]).fullmatch("a\nb\nz\n")


def test_a_file_in_a_page_is_there_for_the_commands_below_it(tmp_path: Path) -> None:
    page = "`one.py`\n\n```python\nprint(1)\n```\n\n```console\n$ python one.py\n1\n```\n"
    Reader(tmp_path).follow(page)


def test_ctrl_c_is_pressed_once_the_other_terminals_are_done(tmp_path: Path) -> None:
    page = (
        "```console\n"
        "one$ trap 'cat other; exit' INT; echo ready; sleep 60\n"
        "ready\n^C\ndone\n"
        "two$ sleep 0.5; echo done > other\n"
        "```\n"
    )
    Reader(tmp_path).follow(page)
