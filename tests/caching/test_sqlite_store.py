"""The store on disk: values survive, several processes share it, and a bad file harms nobody."""

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from course_lib.caching import SqliteStore

if sys.platform != "win32":
    import fcntl

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60  # seconds, for a machine that is busy
WRITERS = 2

# Writes numbers under keys of its own and under one shared key, and says which have been set.
HAMMER = """
import sys
from course_lib.caching import SqliteStore
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = SqliteStore(path, busy_timeout=60)
for number in range(count):
    store.mset([(f"{name}/{number}", f"{name} {number}".encode()), ("shared", name.encode())])
    print(number, flush=True)
    (back,) = store.mget([f"{name}/{number}"])
    assert back == f"{name} {number}".encode(), back
store.close()
"""


@pytest.fixture
def path(tmp_path):
    """A file that is not there yet, in a folder that is not there either."""
    return tmp_path / "folder" / "cache.sqlite3"


@pytest.fixture
def store(path):
    """A store, closed in the end."""
    with SqliteStore(path) as store:
        yield store


def hammer(path, name, count):
    """Start a process that writes."""
    return subprocess.Popen(
        [sys.executable, "-c", HAMMER, str(path), name, str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_whole(path):
    """SQLite's own check."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    finally:
        connection.close()


def test_what_is_set_is_there_for_the_next_process(path):
    """And keys are listed, by prefix if wanted."""
    with SqliteStore(path) as store:
        store.mset([("a/1", b"one"), ("a/2", b"\x00two"), ("b", b"")])
        store.mdelete(["a/1", "nothing"])
    with SqliteStore(path) as store:
        assert store.mget(["b", "a/1", "a/2"]) == [b"", None, b"\x00two"]
        assert list(store.yield_keys()) == ["a/2", "b"]
        assert list(store.yield_keys(prefix="a/")) == ["a/2"]


def test_it_works_on_an_event_loop_and_from_threads(store):
    """All calls run in the store's own thread."""

    async def main():
        await store.amset([("a", b"1")])
        await store.amset_expiring([("b", b"2", 60)])
        await store.amdelete(["a"])
        return await store.amget(["a", "b"]), [key async for key in store.ayield_keys()]

    assert asyncio.run(main()) == ([None, b"2"], ["b"])
    threads = [threading.Thread(target=store.mset, args=([(str(n), b"")],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert None not in store.mget([str(n) for n in range(8)])


def test_many_keys_are_more_than_one_statement(store):
    """In the order asked, also twice."""
    store.mset([(str(n), str(n).encode()) for n in range(1200)])
    keys = [str(n) for n in reversed(range(1200))] * 2
    assert store.mget(keys) == [key.encode() for key in keys]


def test_what_has_expired_is_not_there_and_is_cleared_away(path):
    """By the wall clock, since that is what processes share."""
    now = [1000.0]
    with SqliteStore(path, wall_clock=lambda: now[0]) as store:
        store.mset_expiring([("short", b"1", 5), ("long", b"2", 50), ("ever", b"3", None)])
        now[0] += 5
        assert store.mget(["short", "long", "ever"]) == [None, b"2", b"3"]
        assert list(store.yield_keys()) == ["long", "ever"]
        store.mset([(str(n), b"") for n in range(200)])
    rows = sqlite3.connect(path)
    assert rows.execute("SELECT count(*) FROM entries WHERE key = 'short'").fetchone() == (0,)
    rows.close()


def test_it_does_not_grow_without_end(path):
    """What was set last stays."""
    with SqliteStore(path, maxsize=50) as store:
        for start in range(0, 1000, 100):
            store.mset([(str(n), b"") for n in range(start, start + 100)])
            kept = list(store.yield_keys())
            assert len(kept) <= 50 + 200
            assert kept[-50:] == [str(n) for n in range(start + 50, start + 100)]


def test_a_value_set_again_and_again_pushes_no_other_out(path):
    """Only what there is too much of is dropped."""
    with SqliteStore(path, maxsize=50) as store:
        store.mset([("other", b"kept")])
        for _ in range(5):
            store.mset([("busy", b"")] * 100)
        assert list(store.yield_keys()) == ["other", "busy"]


def test_two_processes_hammer_one_file_and_nothing_is_lost(path):
    """Both open it at once, too."""
    writers = [hammer(path, f"writer {n}", 150) for n in range(WRITERS)]
    for writer in writers:
        _, errors = writer.communicate(timeout=PATIENCE)
        assert writer.returncode == 0, errors
    with SqliteStore(path) as store:
        for n in range(WRITERS):
            keys = [f"writer {n}/{number}" for number in range(150)]
            assert store.mget(keys) == [key.replace("/", " ").encode() for key in keys]
        assert store.mget(["shared"])[0].startswith(b"writer")
    assert is_whole(path)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_one_killed_in_the_middle_harms_neither_file_nor_the_other(path):
    """What it said it had set is there; the other goes on."""
    victim, other = hammer(path, "victim", 1_000_000), hammer(path, "other", 150)
    said = -1
    while said < 40:
        said = int(victim.stdout.readline())
    victim.kill()
    rest, _ = victim.communicate(timeout=PATIENCE)
    said = max([said, *map(int, rest.split("\n")[:-1])])
    _, errors = other.communicate(timeout=PATIENCE)
    assert other.returncode == 0, errors
    assert is_whole(path)
    with SqliteStore(path) as store:
        assert None not in store.mget([f"victim/{n}" for n in range(said + 1)])
        assert None not in store.mget([f"other/{n}" for n in range(150)])
        store.mset([("after", b"1")])


def damaged(path):
    """A file that was ours, and of which the middle was overwritten."""
    with SqliteStore(path) as store:
        store.mset([(str(n), b"x" * 500) for n in range(200)])
    content = bytearray(path.read_bytes())
    content[100:] = b"\xff" * (len(content) - 100)
    path.write_bytes(content)


def foreign(path):
    """The database of another program."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE customers (name TEXT)")
    connection.execute("INSERT INTO customers VALUES ('Ada')")
    connection.commit()
    connection.close()


def text(path):
    """No database at all."""
    path.write_text("Dear diary, " * 100)


def misspelt(path):
    """A file of ours, of whose tables one letter was changed."""
    with SqliteStore(path) as store:
        store.mset([("1", b"old")])
    content = path.read_bytes()
    assert content.count(b"value BLOB") == 1
    path.write_bytes(content.replace(b"value BLOB", b"valve BLOB"))


@pytest.mark.parametrize("spoil", [damaged, foreign, text, misspelt])
def test_a_file_that_is_of_no_use_is_set_aside_with_a_message(tmp_path, caplog, spoil):
    """No call fails, nothing is lost, and the new file works."""
    path = tmp_path / "cache.sqlite3"
    spoil(path)
    before = path.read_bytes()
    with SqliteStore(path) as store, caplog.at_level(logging.WARNING):
        assert store.mget(["1"]) == [None]
        store.mset([("1", b"new")])
        assert store.mget(["1"]) == [b"new"]
    (aside,) = tmp_path.glob("cache.sqlite3.aside-*")
    assert aside.read_bytes() == before
    assert len(caplog.records) == 1
    assert f"{path} cannot be used as a cache" in caplog.text
    assert str(aside) in caplog.text


def test_a_value_of_which_a_byte_was_changed_is_not_there(path):
    """Nor is one whose time or whose key was; the others are, and it can be set again."""
    with SqliteStore(path) as store:
        store.mset([(f"key {n}", f"value {n}".encode()) for n in range(4)])
    content = path.read_bytes()
    assert content.count(b"value 1") == content.count(b"key 2") == 1
    content = content.replace(b"value 1", b"valve 1").replace(b"key 2", b"kex\xff2")
    path.write_bytes(content)
    keys = [f"key {n}" for n in range(4)]
    with SqliteStore(path) as store:
        assert store.mget(keys) == [b"value 0", None, None, b"value 3"]
        assert len(list(store.yield_keys())) == 4
        store.mset([(key, b"new") for key in keys])
        assert store.mget(keys) == [b"new"] * 4
    rows = sqlite3.connect(path, isolation_level=None)
    rows.execute("UPDATE entries SET expires = 1e12 WHERE key = 'key 0'")
    rows.close()
    with SqliteStore(path) as store:
        assert store.mget(keys) == [None, b"new", b"new", b"new"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A file with forty values, and what is in it."""
    path = tmp_path_factory.mktemp("written") / "cache.sqlite3"
    values = {f"key {n}": f"value {n} ".encode() * 30 for n in range(40)}
    with SqliteStore(path) as store:
        store.mset_expiring(
            [(key, values[key], 1e6 if n % 2 else None) for n, key in enumerate(values)]
        )
    content = path.read_bytes()
    return lambda: (path, content, values)  # hypothesis shows what a test was given: this is short


PLACES = st.integers(0, 511) | st.integers(0, 2**20)  # the header and the tables are hit often


@given(st.lists(st.tuples(PLACES, st.integers(0, 255)), min_size=1, max_size=8))
@example([(19285, 60)])  # the number of a row, which is then out of order
@example([(253102, 102)])
@settings(max_examples=60)
def test_whatever_bytes_were_changed_no_call_fails_and_no_value_is_another(written, changes):
    """And what is set from then on is there."""
    path, content, values = written()
    for file in path.parent.iterdir():
        file.unlink()
    spoilt = bytearray(content)
    for place, byte in changes:
        spoilt[place % len(spoilt)] = byte
    path.write_bytes(spoilt)
    with SqliteStore(path) as store:
        found = store.mget(list(values))
        assert all(f in (None, v) for f, v in zip(found, values.values(), strict=True))
        store.mset([(key, b"new") for key in values])
        assert store.mget(list(values)) == [b"new"] * len(values)
        store.mdelete(list(store.yield_keys()))


def test_a_file_damaged_while_it_is_open_is_set_aside_too(path, caplog):
    """The call is a miss."""
    with SqliteStore(path) as store:
        store.mset([(str(n), b"x" * 500) for n in range(200)])
        store._worker.run(lambda connection, _: connection.execute("PRAGMA wal_checkpoint"), None)
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
        store._worker.run(lambda connection, _: connection.execute("PRAGMA cache_size = 0"), None)
        keys = [str(n) for n in range(200)]
        for _ in range(2):
            store.mget(keys)
            store.mset([("1", b"new")])
        assert store.mget(["1"]) == [b"new"]
    assert is_whole(path)


def test_a_file_that_somebody_deletes_is_made_again(store, path):
    """What is set from then on is in the new one."""
    store.mset([("a", b"1")])
    for file in path.parent.iterdir():
        file.unlink()
    assert store.mget(["a"]) == [None]
    store.mset([("a", b"2")])
    assert path.exists()
    assert store.mget(["a"]) == [b"2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_opens_the_file_itself(path):
    """And its parent's connection still works."""
    program = f"""
import os
from course_lib.caching import SqliteStore
store = SqliteStore({str(path)!r})
store.mset([("parent", b"1")])
if os.fork() == 0:
    store.mset([("child", b"2")])
    store.close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert store.mget(["parent", "child"]) == [b"1", b"2"]
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=PATIENCE)


def test_a_file_out_of_reach_is_an_error_that_says_so(tmp_path):
    """It is not set aside: it may be in order again in a moment."""
    (tmp_path / "file").touch()
    store = SqliteStore(tmp_path / "file" / "cache.sqlite3")
    with store, pytest.raises(OSError, match="Not a directory|File exists"):
        store.mget(["a"])


def test_a_lock_held_too_long_is_an_error(path):
    """After as long as asked, and not for ever."""
    with SqliteStore(path, busy_timeout=0.01) as store:
        store.mset([("a", b"1")])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            store.mset([("a", b"2")])
        assert store.mget(["a"]) == [b"1"]
        other.execute("ROLLBACK")
        other.close()
        store.mset([("a", b"3")])


def test_a_file_that_another_process_writes_to_can_be_opened_and_read(path):
    """Only who writes has to wait."""
    with SqliteStore(path) as store:
        store.mset([("a", b"1")])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with SqliteStore(path, busy_timeout=0.01) as store:
        assert store.mget(["a"]) == [b"1"]
    other.execute("ROLLBACK")
    other.close()


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_a_folder_that_is_locked_is_waited_for_no_longer_than_for_the_file(path):
    """An error says so, and once it is free all is well."""
    path.parent.mkdir()
    descriptor = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with SqliteStore(path, busy_timeout=0.01) as store:
        with pytest.raises(sqlite3.OperationalError, match="folder is locked by another process"):
            store.mget(["a"])
        os.close(descriptor)
        store.mset([("a", b"1")])
        assert store.mget(["a"]) == [b"1"]


def test_the_file_is_private(store, path):
    """Answers may hold what is nobody else's business."""
    store.mset([("a", b"1")])
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0


def test_closing_leaves_one_file_and_can_be_undone(path):
    """The log is merged; the next call opens it again."""
    store = SqliteStore(path)
    store.close()
    store.mset([("a", b"1")])
    store.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert store.mget(["a"]) == [b"1"]
    store.close()
    store.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"maxsize": 0}, "maxsize=0 keeps nothing"), ({"busy_timeout": 0}, "busy_timeout=0")],
)
def test_what_is_out_of_range_for_a_store_is_refused(path, options, message):
    """By name."""
    with pytest.raises(ValueError, match=message):
        SqliteStore(path, **options)


def test_a_folder_is_refused(tmp_path):
    """At once."""
    with pytest.raises(ValueError, match="is a folder: name a file in it"):
        SqliteStore(tmp_path)


@pytest.mark.parametrize("name", [":memory:", "file::memory:?cache=shared", "file:c.sqlite3"])
def test_what_is_no_name_of_a_file_to_sqlite_is_refused(name):
    """It would be a file that lasts, in the working folder."""
    with pytest.raises(ValueError, match="an AsyncCache without a store keeps values in memory"):
        SqliteStore(name)
