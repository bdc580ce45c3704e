"""Which functions can be called with one input, and which are async."""

from __future__ import annotations

import pytest

from dq.errors import BadTask
from dq.functions import reference, signatures


def top_level(x: object) -> object:
    return x


@pytest.mark.parametrize(("name", "fits"), [("f", True), ("g", False), ("h", False)])
def test_a_function_that_does_not_take_one_input_is_refused(name: str, fits: bool) -> None:
    functions = {"f": lambda x, y=2: x, "g": lambda: 0, "h": lambda x, y: x}
    if fits:
        signatures.check_call(functions[name], "work:f", unpack=False)
        return
    with pytest.raises(
        BadTask, match=r"cannot be called with one input.*use unpack to spread each input"
    ):
        signatures.check_call(functions[name], "work:f", unpack=False)
    signatures.check_call(functions[name], "work:f", unpack=True)


@pytest.mark.parametrize("function", [int, max, print, str.upper, dict])
def test_builtins_are_taken_as_they_are(function: reference.Function) -> None:
    signatures.check_call(function, "builtins:x", unpack=False)


def test_async_functions_and_objects_are_known() -> None:
    async def f(x: object) -> None: ...

    class Called:
        async def __call__(self, x: object) -> None: ...

    assert signatures.is_async(f)
    assert signatures.is_async(Called())
    assert not signatures.is_async(top_level)
