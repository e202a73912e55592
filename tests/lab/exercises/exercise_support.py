"""What the tests of exercises share."""

import asyncio
from functools import cache

from course_lib.lab import exercise


@cache  # a card is the same every time: one check serves all tests of it
def card(number, function):
    """The score card of a function, for the exercise of this number."""

    async def main():
        return await exercise(number).check(function)

    return asyncio.run(main())
