"""Tags: what workers are said to have, and what jobs need."""

from __future__ import annotations

import re

from dq._support.naming import setting
from dq.errors import UsageError

TYPE_CHECKING = False  # `typing` takes 5 ms to import, and checkers go by the name

if TYPE_CHECKING:
    from collections.abc import Collection

MOST_TAGS = 100
_TAG = re.compile(r"[\w.:=+-]{1,100}")


def tags(**given: str | Collection[str]) -> frozenset[str]:
    """Some tags, from one argument under its name: a string with commas, or several strings.

    Raises:
        UsageError: one is not a tag.

    >>> sorted(tags(needs="gpu, eu")), sorted(tags(needs=["gpu"]))
    (['eu', 'gpu'], ['gpu'])
    """
    [(name, value)] = given.items()
    if not isinstance(value, (str, list, tuple, set, frozenset)):  # a generator has them only once
        raise UsageError(f"{setting(name)} is a list of tags, such as gpu,eu")
    words = value.split(",") if isinstance(value, str) else list(value)
    found = frozenset(word.strip() if isinstance(word, str) else word for word in words)
    for word in found:
        if not isinstance(word, str) or not _TAG.fullmatch(word):
            raise UsageError(
                f"{setting(name)} {word!r} is not a tag: give letters, digits and any of _.:=+-,"
                " and a comma between two tags"
            )
    if len(found) > MOST_TAGS:
        raise UsageError(f"{setting(name)}: there are more than {MOST_TAGS} tags")
    return found
