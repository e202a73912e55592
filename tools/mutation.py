"""Mutants of a piece of Python: mutmut's operators, on the standard library's syntax tree.

Each mutant differs from the source in one place. The operators are those of mutmut 3 (numbers,
strings, names, assignments, arguments, methods of strings, unary operators, lambdas, keywords,
operators, `match`, conditional expressions), with three more: a decorator, an `await` and a
statement are taken away. Those that leave the program as it was are no mutants.
"""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["mutants"]

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.UAdd: ast.USub,
    ast.USub: ast.UAdd,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Div,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Break: ast.Return,
    ast.Continue: ast.Break,
}
METHODS = [
    ("lower", "upper"),
    ("lstrip", "rstrip"),
    ("find", "rfind"),
    ("ljust", "rjust"),
    ("index", "rindex"),
    ("removeprefix", "removesuffix"),
    ("partition", "rpartition"),
    ("split", "rsplit"),
]
OTHER_METHOD = {a: b for pair in METHODS for a, b in (pair, pair[::-1])}
NONE = ast.Constant(None)


def mutants(source: str) -> Iterator[str]:
    """Yield the text of each mutant of a program, once.

    Args:
        source: The program. Comments are lost; what a mutant changes shows against
            `ast.unparse(ast.parse(source))`.
    """
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    for holder, key, node in list(_places(tree)):
        for other in _variants(node):
            _put(holder, key, other)
            text = ast.unparse(tree)
            _put(holder, key, node)
            if text not in seen and _compiles(text):
                seen.add(text)
                yield text


def _places(tree: ast.AST) -> Iterator[tuple[Any, Any, Any]]:
    """Each node with its holder (a node or a list) and the name or number under which it stands."""
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if isinstance(value, ast.AST):
                yield node, name, value
            elif isinstance(value, list):
                yield from (
                    (value, at, each) for at, each in enumerate(value) if isinstance(each, ast.AST)
                )


def _put(holder: Any, key: Any, node: Any) -> None:
    if isinstance(holder, list):
        holder[key] = node
    else:
        setattr(holder, key, node)


def _compiles(text: str) -> bool:
    try:
        compile(text, "<mutant>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError):
        return False
    return True


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    if type(node) in SWAPPED:
        yield SWAPPED[type(node)]()
    for kind, operator in OPERATORS:
        if isinstance(node, kind):
            yield from operator(node)


def _with(node: Any, **changes: Any) -> Any:
    other = copy.copy(node)
    for name, value in changes.items():
        setattr(other, name, value)
    return other


def _constant(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float | complex):
        yield ast.Constant(value + (1j if isinstance(value, complex) else 1))
    elif isinstance(value, str):
        yield from map(ast.Constant, (f"XX{value}XX", value.lower(), value.upper()))


def _assignment(node: ast.Assign | ast.AnnAssign) -> Iterator[ast.AST]:
    if node.value is not None:
        none = isinstance(node.value, ast.Constant) and node.value.value is None
        yield _with(node, value=ast.Constant("") if none else NONE)


def _augmented(node: ast.AugAssign) -> Iterator[ast.AST]:
    yield ast.Assign([node.target], node.value, lineno=node.lineno)


def _unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    if isinstance(node.op, ast.Not | ast.Invert):
        yield node.operand


def _call(node: ast.Call) -> Iterator[ast.AST]:
    several = len(node.args) + len(node.keywords) > 1
    for at, each in enumerate(node.args):
        before, after = node.args[:at], node.args[at + 1 :]
        if not isinstance(each, ast.Starred):
            yield _with(node, args=[*before, NONE, *after])
        if several:
            yield _with(node, args=[*before, *after])
    for at, keyword in enumerate(node.keywords):
        left, right = node.keywords[:at], node.keywords[at + 1 :]
        if keyword.arg:
            yield _with(node, keywords=[*left, _with(keyword, value=NONE), *right])
            if isinstance(node.func, ast.Name) and node.func.id == "dict":
                renamed = _with(keyword, arg=f"{keyword.arg}XX")
                yield _with(node, keywords=[*left, renamed, *right])
        if several:
            yield _with(node, keywords=[*left, *right])
    if isinstance(node.func, ast.Attribute) and node.func.attr in OTHER_METHOD:
        yield _with(node, func=_with(node.func, attr=OTHER_METHOD[node.func.attr]))


def _name(node: ast.Name) -> Iterator[ast.AST]:
    if node.id == "deepcopy":
        yield _with(node, id="copy")


def _lambda(node: ast.Lambda) -> Iterator[ast.AST]:
    none = isinstance(node.body, ast.Constant) and node.body.value is None
    yield _with(node, body=ast.Constant(0) if none else NONE)


def _choice(node: ast.IfExp) -> Iterator[ast.AST]:
    for operator, value in ((ast.And(), False), (ast.Or(), True)):
        yield _with(node, test=ast.BoolOp(operator, [node.test, ast.Constant(value)]))


def _match(node: ast.Match) -> Iterator[ast.AST]:
    if len(node.cases) > 1:
        for at in range(len(node.cases)):
            yield _with(node, cases=[*node.cases[:at], *node.cases[at + 1 :]])


def _decorated(node: Any) -> Iterator[ast.AST]:
    for at in range(len(node.decorator_list)):
        left = [*node.decorator_list[:at], *node.decorator_list[at + 1 :]]
        yield _with(node, decorator_list=left)


def _await(node: ast.Await) -> Iterator[ast.AST]:
    yield node.value


def _statement(node: ast.stmt) -> Iterator[ast.AST]:
    defining = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Pass
    if not isinstance(node, defining):
        yield ast.Pass()


OPERATORS: list[tuple[Any, Any]] = [
    (ast.Constant, _constant),
    (ast.Assign | ast.AnnAssign, _assignment),
    (ast.AugAssign, _augmented),
    (ast.UnaryOp, _unary),
    (ast.Call, _call),
    (ast.Name, _name),
    (ast.Lambda, _lambda),
    (ast.IfExp, _choice),
    (ast.Match, _match),
    (ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, _decorated),
    (ast.Await, _await),
    (ast.stmt, _statement),
]
