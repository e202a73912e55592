"""The record of what the provider saw: counts, peaks, bounded memory."""

import json
from dataclasses import FrozenInstanceError
from itertools import count

import pytest

from course_lib.service import Call, Ledger
from course_lib.service import ledger as module
from course_lib.service.ledger import Recorder


@pytest.fixture
def recorder():
    """A recorder whose clock advances one second a look."""
    ticks = count()
    return Recorder(lambda: float(next(ticks)))


def test_a_call_is_recorded_when_it_ends(recorder):
    """It counts as a request on arrival, as a call at its end, with both times."""
    visit = recorder.arrive("/search", "q", 7)
    assert (recorder.ledger().requests, recorder.ledger().calls) == (1, ())
    visit.accept()
    visit.leave(200)
    assert recorder.ledger().calls == (Call("/search", "q", 0.0, 1.0, 200, 7),)
    assert recorder.seconds == 1.0


def test_outcomes_are_told_apart(recorder):
    """2xx, 4xx, 429, 5xx and no answer are counted separately."""
    for status in (200, 204, 400, 429, 429, 429, 500, 0, 0):
        recorder.arrive("/", "", 0).leave(status)
    seen = recorder.ledger()
    assert (seen.answered, seen.rejected, seen.errors, seen.dropped) == (2, 3, 1, 2)
    assert seen.requests == 9


def test_peaks_count_queued_and_working_apart(recorder):
    """In flight from acceptance on, working from the slot on; a refused request is neither."""
    recorder.arrive("/", "", 1).leave(429)
    first, second = recorder.arrive("/", "", 1), recorder.arrive("/", "", 2)
    first.accept()
    second.accept()
    first.work()
    first.leave(200)
    second.work()
    second.leave(200)
    seen = recorder.ledger()
    assert (seen.peak_in_flight, seen.peak_working, seen.connections) == (2, 1, 2)
    assert recorder.in_flight == 0


def test_a_reset_begins_anew(recorder):
    """What came before is not counted afterwards, not even when it ends afterwards."""
    early = recorder.arrive("/", "", 1)
    early.accept()
    recorder.reset()
    early.leave(200)
    assert recorder.ledger() == Ledger((), 0, 0, 0, 0, 0, 0, 0, 0)


def test_memory_is_bounded(monkeypatch):
    """Of many calls the last are kept; the counts cover all."""
    monkeypatch.setattr(module, "KEPT_CALLS", 3)
    recorder = Recorder(lambda: 0.0)
    for number in range(10):
        recorder.arrive("/", str(number), 0).leave(200)
    seen = recorder.ledger()
    assert [call.query for call in seen.calls] == ["7", "8", "9"]
    assert seen.answered == 10


def test_the_last_calls_can_be_asked_for(recorder):
    """A snapshot with fewer calls has the same counts."""
    for number in range(5):
        recorder.arrive("/", str(number), 0).leave(200)
    assert [call.query for call in recorder.ledger(last=2).calls] == ["3", "4"]
    assert recorder.ledger(last=0).calls == ()
    assert recorder.ledger(last=0).answered == 5


def test_a_ledger_survives_json(recorder):
    """What is sent is what arrives."""
    recorder.arrive("/search", "Wie läuft's?", 3).leave(0)
    assert Ledger.from_dict(recorder.ledger().to_dict()) == recorder.ledger()


def test_a_snapshot_does_not_change(recorder):
    """It is frozen, and later calls are not in it."""
    before = recorder.ledger()
    recorder.arrive("/", "", 0).leave(200)
    assert before.requests == 0
    with pytest.raises(FrozenInstanceError):
        before.requests = 1


def test_a_ledger_prints_without_its_calls(recorder):
    """A cell that ends with a ledger shows counts, not thousands of lines."""
    recorder.arrive("/", "", 0).leave(200)
    assert repr(recorder.ledger()).startswith("Ledger(requests=1, answered=1,")


def test_each_path_has_a_ledger_of_its_own(recorder):
    """Its calls, its counts and its own peaks, also after a trip through JSON."""
    search, rerank = recorder.arrive("/search", "a", 1), recorder.arrive("/rerank", "b", 1)
    for visit in (search, rerank):
        visit.accept()
        visit.work()
    recorder.arrive("/search", "c", 2).leave(429)
    rerank.leave(500)
    search.leave(200)
    seen = Ledger.from_dict(json.loads(json.dumps(recorder.ledger().to_dict())))
    assert (seen.requests, seen.peak_working, seen.connections) == (3, 2, 2)
    part = seen.path("/search")
    assert (part.requests, part.answered, part.rejected, part.errors) == (2, 1, 1, 0)
    assert (part.peak_in_flight, part.peak_working, part.connections) == (1, 1, 2)
    assert [call.query for call in part.calls] == ["c", "a"]
    assert part.path("/search") == part
    assert seen.path("/v1/models").requests == 0
