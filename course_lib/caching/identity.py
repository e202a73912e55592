"""What a Runnable is, in words that are the same in every process: whose answers are in the cache.

Two functions must never get each other's answers. A function is known by its module, its name and
a digest of its code and of what it closes over, so that one which was edited is another one. What
cannot be told from others like it (a method of an object, a chat model) has no such identity.
"""

from __future__ import annotations

import types
import weakref
from functools import partial
from hashlib import sha256
from itertools import count
from typing import Any, Final

from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase

from course_lib.caching.codec import JsonCodec

__all__ = ["identity_of"]

_CODEC: Final = JsonCodec()
_DIGITS: Final = 16  # of a digest: 64 bits tell apart what one program contains
_numbers: Final = count(1)
_numbered: Final[dict[int, tuple[weakref.ref[Any], int]]] = {}


def identity_of(runnable: Any, key: Any = None, *, lasting: bool) -> str:
    """Return the identity of a Runnable: its name and a digest of what it is made of.

    What a function finds in global variables is not part of it.

    Args:
        runnable: The Runnable.
        key: What chooses of its inputs the part that its answers are kept under: two that choose
            otherwise must not share answers. None for the whole input.
        lasting: Whether it must hold in other processes, too. If not, what has no such identity
            is numbered: the same object has the same number, and no other ever gets it.

    Raises:
        ValueError: It has none; the message says what to do.
    """
    description = _Description(lasting=lasting)
    try:
        description.add(runnable)
        if key is not None:
            description.add(key)
    except _Unknown as unknown:
        reach = "in another process" if lasting else "later on"
        raise ValueError(
            f"{unknown} cannot be told from others like it {reach}. Say whose answers these are: "
            '`cached(..., namespace="search")`, with a name of its own for each'
        ) from None
    digest = sha256("|".join(description.words).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{runnable.get_name()}/{digest[:_DIGITS]}"


class _Unknown(Exception):  # noqa: N818 - becomes a ValueError
    """Something has no identity."""


class _Description:
    """Describes something and what it is made of, word by word.

    Args:
        lasting: Whether only words are wanted that are the same in other processes.

    Attributes:
        words: What has been said.
    """

    def __init__(self, *, lasting: bool) -> None:
        self.words: list[str] = []
        self._lasting = lasting
        self._seen: list[Any] = []  # of functions, which may refer to each other

    def add(self, thing: Any) -> None:
        """Describe one more thing."""
        self.words.append(type(thing).__qualname__)
        if isinstance(thing, types.FunctionType):
            self._add_function(thing)
        elif isinstance(thing, types.CodeType):
            self.words.append(f"{thing.co_code.hex()}{thing.co_names}{thing.co_flags}")
            self._add_all(thing.co_consts)
        elif isinstance(thing, types.BuiltinFunctionType | type):
            self.words.append(f"{thing.__module__}.{thing.__qualname__}")
        elif (parts := _parts(thing)) is not None:
            self._add_all(parts)
        else:
            self.words.append(self._plain(thing))

    def _add_all(self, things: Any) -> None:
        self.words.append("(")
        for thing in things:
            self.add(thing)
        self.words.append(")")

    def _add_function(self, function: types.FunctionType) -> None:
        self.words.append(f"{function.__module__}.{function.__qualname__}")
        if any(function is seen for seen in self._seen):
            return
        self._seen.append(function)
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        self._add_all([function.__code__, cells, function.__defaults__, function.__kwdefaults__])

    def _plain(self, thing: Any) -> str:
        if isinstance(thing, bytes | complex | types.EllipsisType | types.ModuleType):
            return repr(thing)
        try:
            return _CODEC.dumps(thing)
        except (TypeError, ValueError):
            if self._lasting:
                raise _Unknown(f"{thing!r:.80}") from None
        return _number(thing)


def _parts(thing: Any) -> list[Any] | None:
    """Return what something is made of, if that is all that it is."""
    for kinds, parts in _MADE_OF:
        if isinstance(thing, kinds):
            return list(parts(thing))
    return None


def _functions(runnable: RunnableLambda[Any, Any]) -> list[Any]:
    return [getattr(runnable, "func", None), getattr(runnable, "afunc", None)]


_MADE_OF: Final[list[tuple[Any, Any]]] = [
    (RunnableSequence, lambda it: it.steps),
    (RunnableParallel, lambda it: sorted(it.steps__.items())),
    (RunnableBindingBase, lambda it: [it.bound, it.kwargs, it.config.get("configurable")]),
    (RunnableLambda, _functions),
    (partial, lambda it: [it.func, it.args, it.keywords]),
    (types.MethodType, lambda it: [it.__func__, it.__self__]),
    (list | tuple, lambda it: it),
    (dict, lambda it: it.items()),
    (set | frozenset, lambda it: sorted(it, key=repr)),
]
"""Kinds of things, and a function that returns the parts of one."""


def _number(thing: Any) -> str:
    """Return the number of an object, which no other gets, also when it is gone."""
    reference, number = _numbered.get(id(thing), (lambda: None, 0))
    if reference() is not thing:
        number = next(_numbers)
        try:
            weak = weakref.ref(thing, partial(_forget, id(thing)))
        except TypeError:
            raise _Unknown(f"{thing!r:.80}") from None
        _numbered[id(thing)] = weak, number
    return f"#{number}"


def _forget(identity: int, reference: weakref.ref[Any]) -> None:
    """Forget an object that is gone, unless another has taken its place."""
    if _numbered.get(identity, (None, 0))[0] is reference:
        del _numbered[identity]
