"""What is tried again, after what pause, and when a wait is not obeyed."""

import re

import pytest

from course_lib.errors import BadRequest, RateLimited, Unavailable
from course_lib.retry import LONGEST_WAIT, Backoff, Retry


class Foreign(Exception):  # noqa: N818 - another client's
    """An error of another client: it carries a status and the answer's headers."""

    def __init__(self, status, **headers):
        super().__init__("no")
        self.status_code = status
        self.response = type("Response", (), {"headers": headers})()


def test_a_pause_is_drawn_below_a_bound_that_doubles_up_to_a_cap():
    """Full jitter: from nothing to 1, 2, 4, 4, 4 s; the same for the same call and attempt."""
    backoff = Backoff(first=1.0, most=4.0)
    for attempt, longest in enumerate([1, 2, 4, 4, 4], start=1):
        pauses = [backoff.seconds(call, attempt) for call in range(200)]
        assert 0 <= min(pauses) < 0.1 * longest < 0.9 * longest < max(pauses) < longest
        assert pauses[7] == backoff.seconds(7, attempt)
    assert Backoff(seed=1).seconds(0, 1) != Backoff(seed=2).seconds(0, 1)
    assert backoff.seconds(0, 10**6) <= 4.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"first": -1}, "first=-1: give a finite number, 0 or above"),
        ({"first": 2, "most": 1}, "most=1: give a finite number, 2 or above"),
        ({"most": float("inf")}, "most=inf: give a finite number"),
    ],
)
def test_impossible_pauses_are_refused(arguments, message):
    """When they are made."""
    with pytest.raises(ValueError, match=re.escape(message)):
        Backoff(**arguments)


def test_a_rate_limit_is_waited_for_before_the_backoff():
    """Its own, or another client's."""
    retry = Retry(attempts=2, backoff=Backoff(first=0, most=0))
    assert retry.pause(0, 1, RateLimited("429", retry_after=3)) == 3
    assert retry.pause(0, 1, Foreign(429, **{"Retry-After": "3"})) == 3


def test_another_clients_errors_count_as_those_that_say_the_same():
    """A 503 is transient, a 400 is not; and a class that is named counts by itself."""
    retry = Retry(attempts=2)
    assert retry.again(1, Foreign(503))
    assert retry.again(1, Foreign(408))
    assert not retry.again(1, Foreign(400))
    assert not retry.again(2, Foreign(503))
    assert Retry(attempts=2, on=(Foreign,)).again(1, Foreign(400))


@pytest.mark.parametrize("seconds", ["86400", "inf", "60.1"])
def test_a_wait_beyond_the_longest_is_the_callers_to_decide(seconds):
    """The rate limit is raised at once, with what it asks for."""
    retry = Retry(attempts=9)
    own = RateLimited("429", retry_after=float(seconds))
    cause = own.__cause__ = ValueError("beneath")
    with pytest.raises(RateLimited) as caught:
        retry.pause(0, 1, own)
    assert caught.value is own
    assert own.__cause__ is cause
    assert re.match(r"Not tried again: \S+ s were asked for, and 60 s are", own.__notes__[0])

    foreign = Foreign(429, **{"retry-after": seconds})
    with pytest.raises(RateLimited) as caught:
        retry.pause(0, 1, foreign)
    assert (caught.value.retry_after, caught.value.__cause__) == (float(seconds), foreign)


def test_the_longest_wait_can_be_chosen():
    """And is obeyed itself."""
    assert LONGEST_WAIT == 60
    patient = Retry(attempts=2, longest_wait=86400, backoff=Backoff(0, 0))
    assert patient.pause(0, 1, RateLimited("429", retry_after=86400)) == 86400
    with pytest.raises(ValueError, match="longest_wait=inf: give a finite number"):
        Retry(longest_wait=float("inf"))


def test_after_the_last_attempt_nothing_is_raised_in_an_errors_place():
    """There is no pause: whoever asked raises what it had."""
    assert Retry().pause(0, 1, RateLimited("429", retry_after=86400)) is None
    assert Retry(attempts=2).pause(0, 1, BadRequest("400")) is None
    assert Retry(attempts=2).pause(0, 2, Unavailable("503")) is None
