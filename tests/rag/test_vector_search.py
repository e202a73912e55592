"""Searches find what a search through all pairs finds, whatever was added, replaced and deleted."""

import asyncio
import math
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from vectors_support import GivenEmbedding, cosine

from course_lib.rag import FaissVectorStore, MatrixVectorStore, vectors

ROOT = Path(__file__).resolve().parents[2]
DIMENSION = 3
KINDS = pytest.mark.parametrize("kind", [MatrixVectorStore, FaissVectorStore])
numbers = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(-100, 100, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-6),
)
directions = st.lists(numbers, min_size=DIMENSION, max_size=DIMENSION).filter(any)
names = st.integers(0, 12).map(str)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.dictionaries(names, directions, max_size=5)),
        st.tuples(st.just("delete"), st.lists(names, max_size=3)),
        st.tuples(st.just("search"), directions),
    ),
    max_size=12,
)


def documents(ids):
    """A document for each id, whose text is the id."""
    return [Document(name, id=name, metadata={"odd": int(name) % 2}) for name in ids]


def scores(pairs):
    """The scores of what was found."""
    return [score for _, score in pairs]


@KINDS
@given(steps=steps, last=directions, k=st.integers(1, 15))
def test_the_best_are_found_after_any_changes(kind, steps, last, k):
    """Scores are those of all pairs, sorted, and each document comes with its own."""
    store, known = kind(GivenEmbedding({})), {}
    for step, what in [*steps, ("search", last)]:
        if step == "add":
            store.add_vectors(documents(what), list(what.values()))
            known |= what
        elif step == "delete":
            store.delete(what)
            known = {name: vector for name, vector in known.items() if name not in what}
        else:
            found = store.similarity_search_with_score_by_vector(what, k=k)
            truth = {name: cosine(what, vector) for name, vector in known.items()}
            best = sorted(truth.values(), reverse=True)[:k]
            assert scores(found) == pytest.approx(best, abs=1e-5)
            own = [truth[document.id] for document, _ in found]
            assert scores(found) == pytest.approx(own, abs=1e-5)
            assert len({document.id for document, _ in found}) == len(found)
            assert all(-1 <= score <= 1 for score in scores(found))
    assert store.size == len(known)


@KINDS
@given(
    known=st.dictionaries(names, directions, min_size=1),
    query=directions,
    k=st.integers(1, 15),
    filtered=st.booleans(),
)
def test_scores_are_those_of_langchains_store(kind, known, query, k, filtered):
    """The store in memory that comes with LangChain gives the same scores, filtered or not."""
    embedding = GivenEmbedding({**known, "?": query})
    wanted = (lambda document: document.metadata["odd"] == 1) if filtered else None
    found = []
    for each in (kind, InMemoryVectorStore):
        store = each.from_documents(documents(known), embedding)
        found.append(store.similarity_search_with_score("?", k=k, filter=wanted))
    assert scores(found[0]) == pytest.approx(scores(found[1]), abs=1e-5)


@given(
    known=st.lists(directions, min_size=1, max_size=8),
    query=directions,
    k=st.integers(1, 10),
    relevance=st.floats(0, 1),
)
def test_diverse_choices_are_the_best_at_each_step(known, query, k, relevance):
    """Each choice has the highest marginal relevance of those left, by the definition."""
    unit = vectors.unit_vectors(known, ["a vector"] * len(known))
    chosen = vectors.diverse(vectors.unit_vector(query, DIMENSION), unit, k, relevance)
    assert len(chosen) == len(set(chosen)) == min(k, len(known))

    def worth(place, before):
        near = cosine(known[place], query)
        if not before:
            return near
        return relevance * near - (1 - relevance) * max(
            cosine(known[place], known[other]) for other in before
        )

    for step, place in enumerate(chosen):
        before = chosen[:step]
        most = max(worth(other, before) for other in range(len(known)) if other not in before)
        assert worth(place, before) == pytest.approx(most, abs=1e-5)


def test_diverse_choices_are_langchains():
    """On vectors without ties, the same documents in the same order."""
    draw = np.random.default_rng(7)
    known, query = draw.normal(size=(40, 8)), draw.normal(size=8)
    theirs = maximal_marginal_relevance(query, list(known), lambda_mult=0.3, k=10)
    unit = vectors.unit_vectors(known, ["a vector"] * 40)
    assert vectors.diverse(vectors.unit_vector(query, 8), unit, 10, 0.3) == theirs


def test_a_matrix_of_many_blocks_is_searched_whole():
    """Products are made block by block: the scores are those of one product."""
    draw = np.random.default_rng(1)
    many = vectors.unit_vectors(draw.normal(size=(1500, 384)), ["a vector"] * 1500)
    query = vectors.unit_vector(draw.normal(size=384), 384)
    got = vectors.scores_of(many, query)
    assert got == pytest.approx(many @ query, abs=1e-6)
    assert vectors.best(got, 1500) == np.argsort(-got, kind="stable").tolist()


@KINDS
def test_rounding_takes_no_score_beyond_one(kind):
    """The cosine of a vector with itself is 1 at most, and of its opposite -1 at least."""
    known = np.random.default_rng(2).normal(size=(100, 384))
    store = kind(GivenEmbedding({}))
    store.add_vectors(documents(map(str, range(100))), known)
    for number, vector in enumerate(known):
        for sign in (1, -1):
            found = store.similarity_search_with_score_by_vector(sign * vector, k=100)
            [score] = [score for document, score in found if document.id == str(number)]
            assert score == pytest.approx(sign)
            assert abs(score) <= 1


@KINDS
@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e30, 1e300])
def test_the_length_of_a_vector_does_not_matter(kind, size):
    """Very long and very short vectors have the direction of others."""
    store = kind(GivenEmbedding({}))
    store.add_vectors(documents("12"), [[3 * size, 4 * size], [size, -size]])
    [(found, score)] = store.similarity_search_with_score_by_vector([3 / size, 4 / size], k=1)
    assert (found.id, score) == ("1", pytest.approx(1))


def test_equal_scores_come_in_the_order_of_addition():
    """Ties are no matter of chance, also where `k` cuts through them."""
    store = MatrixVectorStore(GivenEmbedding({}))
    store.add_vectors(documents(map(str, range(9))), [[1, 0], [0, 1], [1, 0]] * 3)
    for k, ids in ((2, "02"), (4, "0235"), (9, "023568147")):
        found = store.similarity_search_by_vector([2, 0], k=k)
        assert "".join(each.id for each in found) == ids
    store.delete(["2"])
    store.add_vectors(documents("0"), [[1, 0]])  # keeps its place
    found = store.similarity_search_by_vector([2, 0], k=3)
    assert "".join(each.id for each in found) == "035"


@KINDS
def test_large_searches_leave_the_event_loop(kind, monkeypatch):
    """Above the measured size the product is made in another thread, below it in the loop's."""
    threads = []
    nearest = kind._nearest
    monkeypatch.setattr(
        kind,
        "_nearest",
        lambda *args: threads.append(threading.current_thread()) or nearest(*args),
    )
    for limit, expected in ((2 * DIMENSION, True), (2 * DIMENSION - 1, False)):
        store = kind(GivenEmbedding({"?": [1, 2, 3]}), inline_up_to=limit)
        store.add_vectors(documents("12"), [[1, 0, 0], [0, 1, 0]])
        asyncio.run(store.asimilarity_search("?"))
        assert (threads.pop() is threading.main_thread()) is expected


def test_filters_count_for_the_size_of_a_search():
    """A filter looks at each document in Python: fewer documents are enough for a thread."""
    store = MatrixVectorStore(GivenEmbedding({}), inline_up_to=100)
    store.add_vectors(documents("12"), [[1, 0, 0], [0, 1, 0]])
    threads = set()

    def wanted(_):
        threads.add(threading.current_thread())
        return True

    asyncio.run(store.asimilarity_search_by_vector([1, 2, 3], filter=wanted))
    assert threading.main_thread() not in threads


@KINDS
def test_threads_add_replace_delete_and_search_at_once(kind):
    """Each search sees whole vectors and the documents that belong to them."""
    store = kind(GivenEmbedding({}))
    store.add_vectors(documents(["1"]), [[1, 0, 0]])  # stays, and is always the best
    interval = sys.getswitchinterval()
    axes = [[0, 1, 0], [0, 0, 1]]
    done = threading.Event()

    def change(thread):
        for turn in range(60):
            ids = [str(thread * 1000 + number) for number in range(2, 2 + turn % 7)]
            store.add_vectors(documents(ids), [axes[turn % 2]] * len(ids))
            store.delete(ids[::2])

    def search():
        searches = 0
        while not done.is_set() or not searches:
            found = store.similarity_search_with_score_by_vector([1, 0.5, 0.5], k=5)
            assert found[0][0].id == "1"
            for document, score in found[1:]:
                assert document.id != "1"
                assert math.isclose(score, 0.5 / math.sqrt(1.5), abs_tol=1e-5)
            searches += 1

    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(5) as pool:
            searching = [pool.submit(search) for _ in range(2)]
            try:
                list(pool.map(change, range(1, 4)))
            finally:
                done.set()
            for each in searching:
                each.result()
    finally:
        sys.setswitchinterval(interval)


def test_a_growing_store_is_seldom_copied():
    """The matrix doubles when it is full: 500 single additions copy it fewer than ten times."""
    store = MatrixVectorStore(GivenEmbedding({}))
    rooms = []
    for number in range(500):
        store.add_vectors(documents([str(number)]), [[1, 0, 0]])
        if not rooms or store._rows._room is not rooms[-1]:
            rooms.append(store._rows._room)
    assert len(rooms) <= 10


@KINDS
def test_reading_does_not_wait_for_a_writer(kind):
    """While a large change is under way, searches and look-ups go on with what was there."""
    store = kind(GivenEmbedding({}))
    store.add_vectors(documents("12"), [[1, 0, 0], [0, 1, 0]])
    with store._rows._writing, ThreadPoolExecutor(1) as pool:
        found = pool.submit(store.similarity_search_by_vector, [1, 0, 0]).result(timeout=60)
        assert [each.id for each in found] == ["1", "2"]
        assert pool.submit(store.get_by_ids, ["2"]).result(timeout=60) == documents("2")


@KINDS
def test_an_earlier_view_keeps_what_it_showed(kind):
    """Adding, replacing and deleting change no vector and no document of a view."""
    store = kind(GivenEmbedding({}))
    for name, axis in (("1", [1, 0, 0]), ("2", [0, 1, 0]), ("3", [0, 1, 0])):
        store.add_vectors(documents(name), [axis])  # leaves room for a fourth
    view = store._rows.view()
    store.add_vectors(documents("4"), [[0, 0, 1]])
    store.add_vectors([Document("new", id="1"), *documents("5")], [[0, 0, 1], [0, 1, 0]])
    store.delete(["2"])
    assert view.matrix.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert view.documents[: view.size] == documents("123")
    assert all(row < len(view.documents) for row in view.places.values())
    assert sorted(store._nearest(view, view.matrix[0], 5).places) == [0, 1, 2]
    assert [each.page_content for each in store.get_by_ids(list("12345"))] == ["new", "3", "4", "5"]
    found = store.similarity_search_by_vector([0, 0, 1], k=5)
    assert sorted(each.id for each in found[:2]) == ["1", "4"]
    assert sorted(each.id for each in found[2:]) == ["3", "5"]
    store.delete(["5"])  # as many as the view has
    assert len(store.similarity_search_by_vector([0, 0, 1], k=5)) == view.size
    again = store._nearest(view, view.matrix[0], 1)
    assert (again.places, again.scores) == ([0], [pytest.approx(1)])


@pytest.mark.parametrize("factory", ["HNSW32", "IVF8,Flat"])
def test_approximate_indexes_stand_behind_the_same_interface(factory):
    """They find the text itself, take changes, and filter exactly."""
    draw = np.random.default_rng(3)
    known = draw.normal(size=(320, 16))
    store = FaissVectorStore(GivenEmbedding({}), factory=factory)
    store.add_vectors(documents(map(str, range(320))), known)
    assert [each.id for each in store.similarity_search_by_vector(known[5], k=1)] == ["5"]
    store.delete(["5"])
    assert [each.id for each in store.similarity_search_by_vector(known[5], k=1)] != ["5"]
    everything = store.similarity_search_by_vector(known[5], k=319)  # less, if cells are left out
    assert len({each.id for each in everything}) == len(everything)
    found = store.similarity_search_by_vector(known[5], k=160, filter={"odd": 0})
    assert len(found) == 160


def test_an_index_that_cannot_be_made_is_refused():
    """The message names the kind of index and how many vectors there are."""
    store = FaissVectorStore(GivenEmbedding({}), factory="IVF256,Flat")
    store.add_vectors(documents("12"), [[1, 0, 0], [0, 1, 0]])
    with pytest.raises(ValueError, match="no faiss index 'IVF256,Flat' over 2 vectors"):
        store.similarity_search_by_vector([1, 0, 0])


def test_without_faiss_the_message_says_what_to_install(monkeypatch):
    """An extra that is not installed is named, and what does without it."""
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"course-lib\[scale\].*MatrixVectorStore"):
        FaissVectorStore(GivenEmbedding({}))


def test_importing_the_package_loads_nothing_heavy():
    """faiss, models and clients are imported where they are used."""
    program = (
        "import sys, course_lib.rag\n"
        "heavy = ('faiss', 'langchain_openai', 'onnxruntime', 'matplotlib', 'redis', 'distributed')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert ran.stdout.strip() == "[]", ran.stderr


def test_a_negative_limit_is_refused():
    """A size of work below nothing is a mistake."""
    with pytest.raises(ValueError, match="inline_up_to=-1"):
        MatrixVectorStore(GivenEmbedding({}), inline_up_to=-1)
