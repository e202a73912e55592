"""What the server decides, on a clock of our own: the program's own text, its time replaced."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scale_support import excess

from course_lib.rag.scale_out.redis_bucket import NOTHING, TEXT, Stake
from course_lib.rag.scale_out.redis_link import Script

HAIR = 2e-6  # seconds: the server counts microseconds
START = 1_700_000_000.0
AGED = 1_000_000.0  # seconds that the first run has lasted at the start


def on_our_clock(text):
    """The program with the clock, and what the server says of itself, read from keys."""
    for call, ours in (
        ("redis.call('TIME')", "redis.call('HMGET', 'clock', 's', 'us')"),
        ("redis.pcall('INFO', 'server')", "redis.call('GET', 'info')"),
    ):
        assert text.count(call) == 1
        text = text.replace(call, ours)
    return Script(text)


SCRIPT = on_our_clock(TEXT)


@dataclass
class World:
    """A server whose time we keep, one bucket, and what it gave out."""

    client: object
    rate: float
    capacity: float

    def __post_init__(self):
        self.client.flushall()
        self.log = []
        self.now, self.run, self.started = 0.0, 1, -AGED
        self.wait(0)

    def wait(self, seconds):
        """Let time pass."""
        self.now += seconds
        total = round((START + self.now) * 1e6)
        self.client.hset("clock", mapping={"s": total // 10**6, "us": total % 10**6})
        lasted = int(START + self.now) - int(START + self.started)
        self.client.set("info", f"run_id:{self.run:040x}\r\nuptime_in_seconds:{lasted}\r\n")

    def restart(self, *, forgets):
        """Start the server anew."""
        self.run, self.started = self.run + 1, self.now
        if forgets:
            self.client.delete("b")
        self.wait(0)

    def ask(self, *weights, place=NOTHING, back=NOTHING):
        """Put a question; return the letters, and the place held from then on."""
        reply = SCRIPT.run(
            self.client,
            "b",
            self.rate,
            self.capacity,
            (place if place.weight else back).run,
            *place[:2],
            *back[:2],
            *weights,
        )
        decided, at, run, now = reply
        letters = decided.decode()
        for weight, letter in zip(weights, letters, strict=False):
            if letter == "g":
                self.log.append((float(now), abs(weight)))
        waits = letters.endswith("w")
        return letters, Stake(weights[len(letters) - 1], float(at), run) if waits else NOTHING

    def until(self, stake):
        """The seconds until a place's time, and up to the next microsecond."""
        return max(0.0, stake.at / 1e6 - START - self.now) + 1e-6

    def taken(self):
        """What was granted last, as a stake."""
        return Stake(self.log[-1][1], self.log[-1][0], f"{self.run:040x}".encode())


@pytest.fixture(scope="module")
def connection(shared_server):
    """One client for all worlds: hypothesis makes many."""
    import redis

    with redis.Redis.from_url(shared_server.url) as client:
        yield client


def test_a_full_bucket_gives_a_burst_and_then_a_place(connection):
    """The place's time is when its tokens are there; before it nobody gets anything."""
    world = World(connection, rate=10, capacity=3)
    letters, place = world.ask(1, 2, 0.5, 1)
    assert letters == "ggw"
    assert place.at / 1e6 - START == pytest.approx(0.05, abs=HAIR)
    assert world.ask(-1)[0] == "r"
    again, same = world.ask(0.5, place=place)
    assert (again, same) == ("w", place)
    world.wait(world.until(place))
    assert world.ask(0.5, 1, place=place)[0] == "gw"


def test_who_does_not_wait_is_behind_those_who_do(connection):
    """And leaves no trace: what it wanted is there for the next."""
    world = World(connection, rate=10, capacity=3)
    assert world.ask(-2, -2, -1, -1)[0] == "grgr"
    _, place = world.ask(3)
    world.wait(0.2)
    assert world.ask(-1)[0] == "r"
    world.wait(world.until(place))
    assert world.ask(3, place=place)[0] == "g"


def test_a_place_kept_for_another_weight_moves_by_the_difference(connection):
    """And so do those who come later."""
    world = World(connection, rate=1, capacity=4)
    world.ask(4)
    _, first = world.ask(4)
    _, second = world.ask(1)
    assert world.ask(1, place=first)[1].at == pytest.approx(first.at - 3e6, abs=1)
    _, third = world.ask(1)
    assert third.at == pytest.approx(second.at - 2e6, abs=1)


def test_a_place_given_up_goes_to_who_comes_next(connection):
    """Who has a place already keeps it."""
    world = World(connection, rate=1, capacity=1)
    world.ask(1)
    _, first = world.ask(1)
    _, second = world.ask(1)
    assert world.ask(place=first)[0] == ""
    _, third = world.ask(1)
    assert third.at == pytest.approx(second.at, abs=1)


def test_tokens_given_back_at_once_cost_nothing(connection):
    """It is as if they had not been taken."""
    world = World(connection, rate=1, capacity=3)
    world.ask(3)
    world.ask(back=world.taken())
    assert world.ask(-3)[0] == "g"


def test_of_tokens_given_back_late_there_is_less(connection):
    """Had they not been taken, the bucket had been full, and half a second had passed unused."""
    world = World(connection, rate=1, capacity=3)
    world.ask(1)
    taken = world.taken()
    world.wait(0.5)
    world.ask(2)
    world.ask(back=taken)
    assert world.ask(-1.1, -1)[0] == "rg"


def test_one_that_is_late_is_passed_once_and_keeps_its_place_before_newcomers(connection):
    """A bucket of one token cannot make up for lateness: the bound comes first."""
    world = World(connection, rate=1, capacity=1)
    world.ask(1)
    (_, late), (_, other) = world.ask(1), world.ask(1)
    world.wait(5)
    assert world.ask(1, place=other)[0] == "g"
    letters, late = world.ask(1, place=late)
    assert (letters, late.at / 1e6 - START) == ("w", pytest.approx(6, abs=HAIR))
    _, newcomer = world.ask(1)
    assert newcomer.at > late.at
    world.wait(world.until(late))
    assert world.ask(1, place=late)[0] == "g"


@pytest.mark.parametrize("forgets", [True, False])
def test_after_a_restart_it_holds_what_has_flowed_in_since(connection, forgets):
    """Whether the server has forgotten all, or come back with an old state; places are void."""
    world = World(connection, rate=1, capacity=9)
    world.ask(9)
    _, place = world.ask(9)
    world.restart(forgets=forgets)
    assert world.ask(-0.1)[0] == "r"
    again, place = world.ask(1, place=place)
    assert (again, place.at / 1e6 - START) == ("w", pytest.approx(1, abs=HAIR))
    world.ask(place=place)
    if forgets:
        world.client.delete("b")
    world.wait(5)
    assert world.ask(-3)[0] == "g"


def test_a_clock_that_is_set_back_stands_still(connection):
    """Until it has caught up; what was in the bucket still is."""
    world = World(connection, rate=1, capacity=2)
    world.ask(1)
    world.wait(-100)
    assert world.ask(-1, -1)[0] == "gr"
    world.wait(100.9)
    assert world.ask(-1)[0] == "r"
    world.wait(0.2)
    assert world.ask(-1, -1)[0] == "gr"


def test_a_user_who_may_not_ask_for_info_starts_with_an_empty_bucket(connection):
    """Nothing is known of a restart then."""
    world = World(connection, rate=1, capacity=2)
    connection.delete("info")
    letters, place = world.ask(2)
    assert letters == "w"
    world.now += 2
    seconds = int(START + world.now)
    connection.hset("clock", mapping={"s": seconds, "us": 1})
    assert world.ask(2, place=place)[0] == "g"


WEIGHTS = st.sampled_from([0.5, 1, 2, 3])
STEPS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.01, 0.1, 0.333, 1, 3])),
    st.tuples(
        st.just("ask"), st.integers(0, 2), st.lists(WEIGHTS, min_size=1, max_size=4), st.booleans()
    ),
    st.tuples(st.just("come"), st.integers(0, 2), st.lists(WEIGHTS, max_size=3)),
    st.tuples(st.just("leave"), st.integers(0, 2)),
    st.tuples(st.just("back")),
    st.tuples(st.just("restart"), st.booleans()),
)


@given(st.lists(STEPS, max_size=30), st.sampled_from([0.7, 3, 50, 1000]), st.sampled_from([3, 7.5]))
def test_no_window_is_ever_too_full(connection, steps, rate, capacity):
    """Whatever three processes do: ask, come late, leave, give back; and with restarts."""
    world = World(connection, rate, capacity)
    places = [NOTHING] * 3
    for kind, *details in steps:
        if kind == "wait":
            world.wait(details[0])
        elif kind == "ask":
            process, weights, waits = details
            if not places[process].weight:
                weights = weights if waits else [-weight for weight in weights]
                _, places[process] = world.ask(*weights)
        elif kind == "come" and places[details[0]].weight:
            process, more = details
            place = places[process]
            world.wait(world.until(place))
            _, places[process] = world.ask(place.weight, *more, place=place)
        elif kind == "leave" and places[details[0]].weight:
            world.ask(place=places[details[0]])
            places[details[0]] = NOTHING
        elif kind == "back" and world.log:
            world.ask(back=world.taken())
            world.log.pop()
        elif kind == "restart":
            world.restart(forgets=details[0])
    assert excess(world.log, rate, capacity) <= rate * HAIR + 1e-6


@given(
    st.lists(st.tuples(st.integers(0, 2), WEIGHTS), min_size=1, max_size=25),
    st.sampled_from([3, 50, 700]),
)
def test_in_time_places_are_served_in_order_and_nothing_is_wasted(connection, callers, rate):
    """With processes that are never late, the n-th grant comes exactly when its tokens do."""
    capacity = 4
    world = World(connection, rate, capacity)
    queues = [[weight for process, weight in callers if process == each] for each in range(3)]
    places, ahead = {}, []
    for process in range(3):
        ask(world, queues, places, ahead, process)
    while places:
        process = ahead.pop(0)
        world.wait(world.until(places[process]))
        ask(world, queues, places, ahead, process)
    assert queues == [[], [], []]
    total = 0
    for now, weight in world.log:
        total += weight
        due = max(0.0, (total - capacity) / rate)
        assert now / 1e6 - START == pytest.approx(due, abs=len(callers) * HAIR)


def ask(world, queues, places, ahead, process):
    """One process's question; `ahead` is who holds places, in the order they were taken."""
    place = places.pop(process, NOTHING)
    if not queues[process]:
        return
    letters, new = world.ask(*queues[process], place=place)
    assert letters.startswith("g") or not place.weight
    del queues[process][: letters.count("g")]
    if new.weight:
        places[process] = new
        ahead.append(process)
