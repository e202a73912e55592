"""Tokens as the stand-in for a language model counts and writes them: words and marks.

A real model's tokens are pieces of words, about 1.3 of them for each English word; a word and a
mark apart come close, without a vocabulary to load.
"""

import re
from typing import Final

__all__ = ["count_tokens", "pieces"]

TOKEN: Final = re.compile(r"\w+|[^\w\s]")
PIECE: Final = re.compile(rf"\s*(?:{TOKEN.pattern})")


def pieces(text: str) -> list[str]:
    """Return the tokens of a text, spaces before them included; joined, they are the text."""
    # Without the spaces at its end: with no token after them, each would be a start in vain.
    return PIECE.findall(text.rstrip())


def count_tokens(text: str) -> int:
    """Return the number of tokens in a text."""
    return len(TOKEN.findall(text))
