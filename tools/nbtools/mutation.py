"""One small slip at a time: the mutants of a program.

The operators are mutmut's: numbers, strings, names, comparisons, arithmetic, boolean operators,
keywords, assignments, arguments, lambdas, methods that have a mirror image, and cases of a match. As
there, annotations and docstrings stay, and so do the arguments of `len` and `isinstance`.

Source: mutmut 3, `node_mutation.py`; its operators are applied here to the tree of `ast`.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Mutant", "mutants"]

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Mod: ast.Div, ast.Pow: ast.Mult, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd,
    ast.And: ast.Or, ast.Or: ast.And, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Break: ast.Return, ast.Continue: ast.Break,
}  # fmt: skip
MIRRORED = {
    "lower": "upper", "lstrip": "rstrip", "find": "rfind", "index": "rindex", "ljust": "rjust",
    "removeprefix": "removesuffix", "partition": "rpartition", "split": "rsplit",
}  # fmt: skip
MIRRORED |= {other: name for name, other in MIRRORED.items()}
NAMES = {"deepcopy": "copy", "copy": "deepcopy"}
LEFT_ALONE = {"len", "isinstance"}  # their arguments: a mutant of these is an error at once


@dataclass(frozen=True, slots=True)
class Mutant:
    """A program with one slip.

    Attributes:
        source: The whole program.
        line: Number of the line in the original, from 1.
        slip: What was there and what is there now.
    """

    source: str
    line: int
    slip: str


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a program, in the order of its lines.

    Args:
        source: The program.
    """
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    for path, node in _walk(tree):
        for other in _others(node):
            changed = _with(tree, path, other)
            text = ast.unparse(ast.fix_missing_locations(changed))
            if text not in seen:
                seen.add(text)
                slip = f"{_brief(node)} -> {_brief(other)}"
                yield Mutant(text, getattr(node, "lineno", _line(tree, path)), slip)


Path = tuple[tuple[str, int | None], ...]


def _walk(node: ast.AST, path: Path = ()) -> Iterator[tuple[Path, ast.AST]]:
    """Yield each node that may be mutated, with the way to it from the root."""
    yield path, node
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_params"}:
            continue
        if name == "args" and isinstance(node, ast.Call) and _name(node.func) in LEFT_ALONE:
            continue
        children = value if isinstance(value, list) else [value]
        for place, child in enumerate(children):
            if isinstance(child, ast.AST) and not _is_docstring(node, name, place, child):
                yield from _walk(child, (*path, (name, place if value is children else None)))


def _is_docstring(node: ast.AST, name: str, place: int, child: ast.AST) -> bool:
    holds = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module)
    text = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
    return holds and name == "body" and place == 0 and text


def _with(tree: ast.AST, path: Path, other: ast.AST) -> ast.AST:
    """Return a copy of the tree in which another node stands at the end of the way."""
    root = copy.deepcopy(tree)
    if not path:
        return other
    node: Any = root
    for name, place in path[:-1]:
        node = getattr(node, name) if place is None else getattr(node, name)[place]
    name, place = path[-1]
    if place is None:
        setattr(node, name, other)
    else:
        getattr(node, name)[place] = other
    return root


def _line(tree: ast.AST, path: Path) -> int:
    """Return the line of the nearest node above that has one."""
    node: Any = tree
    line = 1
    for name, place in path:
        node = getattr(node, name) if place is None else getattr(node, name)[place]
        line = getattr(node, "lineno", line)
    return line


def _name(node: ast.AST) -> str:
    return getattr(node, "id", getattr(node, "attr", ""))


def _brief(node: ast.AST) -> str:
    """Return a node as text of one line; operators by their names."""
    text = ast.unparse(node) if isinstance(node, ast.expr | ast.stmt) else type(node).__name__
    first, *more = text.splitlines() or [""]
    return f"{first} …" if more else first


def _others(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what mutmut would put in the place of a node."""
    for operator in (_constants, _names, _operators, _calls, _assignments, _shapes):
        yield from operator(node)


def _constants(node: ast.AST) -> Iterator[ast.AST]:
    if not isinstance(node, ast.Constant):
        return
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float | complex):
        yield ast.Constant(value + 1)
    elif isinstance(value, str):
        yield from (ast.Constant(each) for each in (f"XX{value}XX", value.lower(), value.upper()))


def _names(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Name) and node.id in NAMES:
        yield ast.Name(NAMES[node.id], node.ctx)
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield ast.Attribute(node.value, NAMES[node.attr], node.ctx)


def _operators(node: ast.AST) -> Iterator[ast.AST]:
    if type(node) in SWAPPED:
        yield SWAPPED[type(node)]()
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
        yield node.operand


def _calls(node: ast.AST) -> Iterator[ast.AST]:
    """A call with an argument missing or None, with a keyword misspelt, or of the mirror method."""
    if not isinstance(node, ast.Call):
        return
    if isinstance(node.func, ast.Attribute) and node.func.attr in MIRRORED:
        other = ast.Attribute(node.func.value, MIRRORED[node.func.attr], node.func.ctx)
        yield ast.Call(other, node.args, node.keywords)
    if _name(node.func) in LEFT_ALONE:
        return
    for place, argument in enumerate(node.args):
        if not isinstance(argument, ast.Starred):
            before, after = node.args[:place], node.args[place + 1 :]
            yield ast.Call(node.func, [*before, ast.Constant(None), *after], node.keywords)
            if len(node.args) + len(node.keywords) > 1:
                yield ast.Call(node.func, [*before, *after], node.keywords)
    yield from _keywords(node)


def _keywords(node: ast.Call) -> Iterator[ast.AST]:
    for place, keyword in enumerate(node.keywords):
        before, after = node.keywords[:place], node.keywords[place + 1 :]
        if keyword.arg is None:
            continue
        none = ast.keyword(keyword.arg, ast.Constant(None))
        yield ast.Call(node.func, node.args, [*before, none, *after])
        if len(node.args) + len(node.keywords) > 1:
            yield ast.Call(node.func, node.args, [*before, *after])
        if _name(node.func) == "dict":
            other = ast.keyword(f"{keyword.arg}XX", keyword.value)
            yield ast.Call(node.func, node.args, [*before, other, *after])


def _assignments(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Assign) or (isinstance(node, ast.AnnAssign) and node.value):
        other = copy.deepcopy(node)
        nothing = isinstance(node.value, ast.Constant) and node.value.value is None
        other.value = ast.Constant("" if nothing else None)
        yield other
    if isinstance(node, ast.AugAssign):
        yield ast.Assign([node.target], node.value)


def _shapes(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Lambda):
        nothing = isinstance(node.body, ast.Constant) and node.body.value is None
        yield ast.Lambda(node.args, ast.Constant(0 if nothing else None))
    if isinstance(node, ast.Match) and len(node.cases) > 1:
        for place in range(len(node.cases)):
            yield ast.Match(node.subject, [*node.cases[:place], *node.cases[place + 1 :]])
