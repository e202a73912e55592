"""Bad arguments are refused at once, in one wording."""

import re

import pytest

from course_lib.async_batch import ServiceClient, SyncServiceClient
from course_lib.checks import require_number, require_positive, require_seconds, require_whole

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("check", "values", "wanted"),
    [
        (require_whole, [0, -1, 1.0, True, "3", None, NAN], "a whole number, 1 or above"),
        (require_positive, [0, -1, NAN, INF, True, "1", None, 1j], "a finite number above 0"),
        (require_seconds, [-1e-9, NAN, INF, True, "1", None], "a finite number, 0 or above"),
        (require_number, [NAN, INF, -INF, False, "1", None], "a finite number"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(check, values, wanted):
    """The message names the argument, its value and the fix."""
    for value in values:
        message = re.escape(f"delay={value!r}: give {wanted}") + "$"
        with pytest.raises(ValueError, match=message):
            check(delay=value)


def test_what_is_in_range_is_taken():
    """Bounds included, and whole numbers of any size."""
    require_whole(size=1)
    require_whole(size=0, least=0)
    require_positive(rate=1e-300, limit=10**400)
    require_seconds(delay=0, other=0.0)
    require_number(delay=-1e300)
    require_number(delay=2, least=2)


def test_the_first_bad_one_of_several_is_named():
    """In the order in which they are given."""
    with pytest.raises(ValueError, match="second=0"):
        require_whole(first=1, second=0, third=0)


@pytest.mark.parametrize("client", [ServiceClient, SyncServiceClient])
@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"max_connections": 0}, "max_connections=0: give a whole number, 1 or above"),
        ({"max_connections": "3"}, "max_connections='3': give a whole number, 1 or above"),
        ({"timeout": 0.0}, "timeout=0.0: give a finite number above 0"),
        ({"timeout": None}, "timeout=None: give a finite number above 0"),
    ],
)
def test_no_client_is_made_that_could_not_answer_a_call(client, limits, named):
    """The mistake is named before the first call."""
    with pytest.raises(ValueError, match=re.escape(named)):
        client("http://127.0.0.1:1", **limits)
