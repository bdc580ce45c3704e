"""A script compiled so that nothing below its first call of dq runs where it is only loaded.

That call raises there, and an exception alone is not enough: an `except:` around it would go on
with the script in every worker, and a `finally:` would clean up what the run still uses. So, with
STOP as a global of the script, an object that knows what is raised (`error`) and whether it was
(`came`):

    try:                        try:
        dq.run(f, inputs)           dq.run(f, inputs)
                                except STOP.error:
                                    raise
    except:             →       except:
        print("failed")             print("failed")
    finally:                    finally:
        clean_up()                  if not STOP.came:
                                        clean_up()

    with suppress(…):           with suppress(…):
        dq.run(f, inputs)           dq.run(f, inputs)
                                if STOP.came:
                                    raise STOP.error
"""

from __future__ import annotations

import ast
from types import CodeType
from typing import TypeVar

N = TypeVar("N", bound=ast.AST)

STOP = "__dq_stop__"


def compiled(source: bytes, path: str) -> CodeType:
    """The code of a script that can be stopped.

    Raises:
        SyntaxError: it is no Python.
    """
    tree = ast.parse(source, path)
    for node in list(ast.walk(tree)):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):  # a lambda's body is an expression
                setattr(node, name, _checked(block))
        if isinstance(node, ast.Try):
            _pass_on(node)
    # Else this file's own `from __future__` would hold in it too.
    return compile(tree, path, "exec", dont_inherit=True)


def _checked(block: list[ast.stmt]) -> list[ast.stmt]:
    """With a look, after each statement that can swallow an exception, whether it did."""
    checked: list[ast.stmt] = []
    for statement in block:
        checked.append(statement)
        if isinstance(statement, _SWALLOWING):
            again = ast.Raise(exc=_stop("error"), cause=None)
            checked.append(_at(statement, ast.If(test=_stop("came"), body=[again], orelse=[])))
    return checked


def _pass_on(node: ast.Try) -> None:
    """Let a `try` do nothing about the exception that ends the loading."""
    if node.handlers:
        handler = ast.ExceptHandler(type=_stop("error"), name=None, body=[ast.Raise()])
        node.handlers.insert(0, _at(node.handlers[0], handler))
    if node.finalbody:
        going_on = ast.UnaryOp(op=ast.Not(), operand=_stop("came"))
        node.finalbody = [
            _at(node.finalbody[0], ast.If(test=going_on, body=node.finalbody, orelse=[]))
        ]


_SWALLOWING = tuple(
    kind for name in ("With", "TryStar") if (kind := getattr(ast, name, None)) is not None
)


def _stop(name: str) -> ast.Attribute:
    return ast.Attribute(value=ast.Name(id=STOP, ctx=ast.Load()), attr=name, ctx=ast.Load())


def _at(place: ast.AST, new: N) -> N:
    """A new node, with all in it that has no place yet, in the line of another."""
    return ast.fix_missing_locations(ast.copy_location(new, place))
