"""What LangChain expects of a vector store holds for both, sync and async."""

import asyncio

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index
from vectors_support import GivenEmbedding, WordEmbedding

from course_lib.lab import simulate
from course_lib.rag import FaissVectorStore, MatrixVectorStore

STORES = (MatrixVectorStore, FaissVectorStore)
FOO = Document("foo", metadata={"id": 1})
BAR = Document("bar", metadata={"id": 2})


class Sync:
    """Calls the sync methods."""

    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        return getattr(self.store, name)


class Async(Sync):
    """Calls the async methods, each in a loop of its own."""

    def __getattr__(self, name):
        method = getattr(self.store, f"a{name}")
        return lambda *args, **kwargs: asyncio.run(method(*args, **kwargs))


@pytest.fixture(params=STORES, ids=lambda each: each.__name__)
def kind(request):
    """A class of stores."""
    return request.param


@pytest.fixture(params=[Sync, Async], ids=lambda each: each.__name__.lower())
def side(request):
    """One side of the interface."""
    return request.param


@pytest.fixture(params=[0, 1_000_000], ids=["threads", "inline"])
def store(kind, side, request):
    """An empty store, whose async searches run in threads or inline."""
    return side(kind(DeterministicFakeEmbedding(size=6), inline_up_to=request.param))


def named(document, name):
    """The document with an id."""
    return document.model_copy(update={"id": name})


def test_an_empty_store_finds_nothing(store):
    """A search in an empty store returns an empty list, whatever is looked for."""
    assert store.similarity_search("foo", k=1) == []
    assert store.max_marginal_relevance_search("foo", k=1) == []


def test_added_documents_are_found_with_their_ids(store):
    """The nearest comes first, with the id that adding returned; what was added is untouched."""
    originals = [FOO.model_copy(), BAR.model_copy()]
    ids = store.add_documents(originals)
    assert [each.id for each in originals] == [None, None]
    assert store.similarity_search("bar", k=2) == [named(BAR, ids[1]), named(FOO, ids[0])]
    assert store.get_by_ids(ids) == [named(FOO, ids[0]), named(BAR, ids[1])]


def test_given_ids_come_before_those_of_documents(store):
    """`ids` names each document; one without a name gets a new one, and the rest keep theirs."""
    assert store.add_documents([named(FOO, "x"), BAR], ids=["1", "2"]) == ["1", "2"]
    ids = store.add_documents([named(FOO, "foo"), BAR])
    assert ids[0] == "foo"
    assert ids[1] not in {None, "", "foo", "1", "2"}
    assert len(store.get_by_ids(["1", "2", *ids])) == 4


def test_adding_twice_changes_nothing(store):
    """The same ids and texts again leave one of each."""
    for _ in range(2):
        store.add_documents([FOO, BAR], ids=["1", "2"])
    assert store.similarity_search("bar", k=3) == [named(BAR, "2"), named(FOO, "1")]


def test_an_id_that_is_there_is_replaced(store):
    """The new text and metadata are found, the old text is gone."""
    store.add_documents([FOO, BAR], ids=["1", "2"])
    new = Document("new foo", metadata={"changed": True})
    store.add_documents([new], ids=["1"])
    assert store.similarity_search("new foo", k=2) == [named(new, "1"), named(BAR, "2")]
    assert store.get_by_ids(["1"]) == [named(new, "1")]


def test_deleted_documents_are_gone(store):
    """Ids that are not there are passed over; the others are found no more."""
    store.add_documents([FOO, BAR], ids=["1", "2"])
    assert store.delete(["1", "no such id"]) is True
    assert store.similarity_search("foo", k=2) == [named(BAR, "2")]
    assert store.get_by_ids(["1", "2"]) == [named(BAR, "2")]
    store.add_documents([FOO], ids=["1"])
    assert store.similarity_search("foo", k=1) == [named(FOO, "1")]


def test_deleting_without_ids_deletes_all(store):
    """`delete()` empties the store, `delete([])` deletes nothing."""
    store.add_documents([FOO, BAR], ids=["1", "2"])
    store.delete([])
    assert len(store.similarity_search("foo", k=2)) == 2
    store.delete()
    assert store.similarity_search("foo", k=2) == []


def test_texts_are_added_from_any_iterable(store):
    """A generator of texts is taken whole, with metadata and ids for each."""
    texts = (text for text in ("foo", "bar"))
    assert store.add_texts(texts, [{"id": 1}, {"id": 2}], ids=["1", "2"]) == ["1", "2"]
    assert store.similarity_search("foo", k=1) == [named(FOO, "1")]
    assert store.add_texts([]) == []


def test_all_ways_to_search_agree(store):
    """By text, by vector and with scores: the same documents in the same order."""
    store.add_texts([f"text {number}" for number in range(20)])
    vector = DeterministicFakeEmbedding(size=6).embed_query("text 7")
    pairs = store.similarity_search_with_score("text 7", k=5)
    found = [document for document, _ in pairs]
    assert found[0].page_content == "text 7"
    assert pairs[0][1] == pytest.approx(1)
    assert store.similarity_search("text 7", k=5) == found
    assert store.similarity_search_by_vector(vector, k=5) == found
    assert store.similarity_search_with_score_by_vector(vector, k=5) == pairs
    assert store.search("text 7", "similarity", k=5) == found


@pytest.mark.parametrize("wanted", [{"even": True}, lambda document: document.metadata["even"]])
def test_a_filter_says_what_may_be_found(store, wanted):
    """A function or equal metadata: only what passes is found, as many as there are."""
    store.add_texts([f"{n}" for n in range(9)], [{"n": n, "even": n % 2 == 0} for n in range(9)])
    found = store.similarity_search("3", k=9, filter=wanted)
    assert sorted(each.metadata["n"] for each in found) == [0, 2, 4, 6, 8]
    everything = store.similarity_search_with_score("3", k=9)
    rest = [pair for pair in everything if pair[0].metadata["even"]]
    again = store.similarity_search_with_score("3", k=3, filter=wanted)
    assert [each[0] for each in again] == [each[0] for each in rest[:3]]
    assert [each[1] for each in again] == pytest.approx([each[1] for each in rest[:3]], abs=1e-5)
    assert store.similarity_search("3", k=1, filter={"no such": 1}) == []
    diverse = store.max_marginal_relevance_search("3", k=9, filter=wanted)
    assert sorted(each.metadata["n"] for each in diverse) == [0, 2, 4, 6, 8]


def test_relevance_is_the_cosine_from_zero_up(kind, side):
    """What points away has relevance 0, and no warning is raised."""
    vectors = {"same": [2, 0], "across": [0, 3], "away": [-1, 0], "half": [1, 3**0.5]}
    store = side(kind.from_texts(list(vectors), GivenEmbedding(vectors)))
    found = store.similarity_search_with_relevance_scores("same", k=4)
    relevance = {document.page_content: score for document, score in found}
    assert relevance == pytest.approx({"same": 1, "across": 0, "away": 0, "half": 0.5}, abs=1e-6)
    few = store.similarity_search_with_relevance_scores("same", k=4, score_threshold=0.4)
    assert [document.page_content for document, _ in few] == ["same", "half"]


@pytest.mark.parametrize("search_type", ["similarity", "mmr"])
def test_it_serves_as_a_retriever(store, search_type):
    """`as_retriever` passes its arguments on, sync and async."""
    store.add_texts(["foo", "bar", "baz"])
    retriever = store.store.as_retriever(search_type=search_type, search_kwargs={"k": 2})
    assert len(retriever.invoke("foo")) == 2
    assert asyncio.run(retriever.ainvoke("foo")) == retriever.invoke("foo")


def test_stores_are_made_from_texts_and_documents(kind):
    """The class methods pass ids and the class's own arguments on, sync and async."""
    embedding = WordEmbedding()
    made = kind.from_texts(["a", "b"], embedding, [{}, {"x": 1}], ids=["1", "2"], inline_up_to=5)
    assert made.get_by_ids(["2"]) == [Document("b", id="2", metadata={"x": 1})]
    assert made.embeddings is embedding
    assert made.size == 2
    later = asyncio.run(kind.afrom_documents([named(FOO, "1"), BAR], embedding))
    assert later.get_by_ids(["1"]) == [named(FOO, "1")]
    assert later.size == 2


def test_langchains_indexing_works_with_it(kind):
    """`index` adds what is new, skips what is known, and deletes what is gone."""
    store = kind(WordEmbedding())
    records = InMemoryRecordManager("here")
    records.create_schema()
    documents = [Document(f"text {n}", metadata={"source": "s"}) for n in range(5)]
    settings = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
    assert index(documents, records, store, **settings)["num_added"] == 5
    again = index(documents[1:], records, store, **settings)
    assert (again["num_skipped"], again["num_deleted"]) == (4, 1)
    assert store.size == 4


def test_what_is_handed_out_is_a_copy(kind):
    """Changing a document that was added or found leaves the store as it is."""
    store = kind(WordEmbedding())
    added = Document("foo", id="1", metadata={"n": 1})
    store.add_documents([added])
    added.metadata["n"] = 2
    for found in (*store.similarity_search("foo"), *store.get_by_ids(["1"])):
        found.page_content, found.metadata["n"] = "other", 3
    assert store.get_by_ids(["1"]) == [Document("foo", id="1", metadata={"n": 1})]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda store: store.similarity_search("a", k=0), "k=0 finds nothing"),
        (lambda store: store.max_marginal_relevance_search("a", k=-1), "k=-1 finds nothing"),
        (
            lambda store: store.max_marginal_relevance_search("a", lambda_mult=2),
            "lambda_mult=2: give a share",
        ),
        (lambda store: store.similarity_search_by_vector([1.0, 2]), "2 dimensions, the store 64"),
        (lambda store: store.similarity_search_by_vector([0] * 64), "the query has no direction"),
        (
            lambda store: store.similarity_search_by_vector([float("nan")] * 64),
            "the query has no direction",
        ),
        (lambda store: store.add_documents([FOO, BAR], ids=["1", "1"]), "id '1' comes twice"),
        (lambda store: store.add_documents([FOO, BAR], ids=["1"]), "1 ids for 2 documents"),
        (lambda store: store.add_texts(["a", "b"], [{}]), "1 metadatas for 2 texts"),
    ],
)
def test_bad_input_is_refused(kind, side, call, message):
    """The message names what is wrong, and nothing changes."""
    store = kind.from_texts(["a"], WordEmbedding())
    with pytest.raises(ValueError, match=message):
        call(side(store))
    assert store.size == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda store: store.similarity_search("a", filter=7), "filter=7: give a function"),
        (lambda store: store.similarity_search("a", fliter={}), "fliter"),
        (lambda store: store.max_marginal_relevance_search("a", fliter={}), "fliter"),
        (lambda store: store.delete("abc"), "ids='abc' is one string"),
        (lambda store: store.get_by_ids("abc"), "ids='abc' is one string"),
    ],
)
def test_arguments_of_another_kind_are_refused(kind, side, call, message):
    """A misspelt argument, or a string for a list, is not passed over in silence."""
    store = side(kind.from_texts(["a"], WordEmbedding()))
    with pytest.raises(TypeError, match=message):
        call(store)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1, 0], [0, 0]], "vector of 'b' has no direction"),
        ([[1, 0], [float("nan"), 1]], "vector of 'b' has no direction"),
        ([[float("inf"), 0], [1, 1]], "vector of 'a' has no direction"),
        ([[1, 0]], "1 vectors for 2 texts"),
        ([[1, 0], [1, 0, 0]], r"vectors of \[2, 3\] dimensions"),
        ([[1, 0, 0], [1, 0, 0]], "vectors of 3 dimensions, in a store of 2"),
    ],
)
def test_vectors_of_no_use_are_refused(kind, vectors, message):
    """None of a call's documents is added when one has no usable vector."""
    store = kind(WordEmbedding())
    store.add_vectors([Document("c", id="c")], [[3, 4]])
    with pytest.raises(ValueError, match=message):
        store.add_vectors([Document("a", id="a"), Document("b", id="b")], vectors)
    assert store.size == 1
    assert store.get_by_ids(["a", "b", "c"]) == [Document("c", id="c")]


def test_an_emptied_store_takes_another_dimension(kind):
    """The dimension is that of the documents that are there."""
    store = kind(WordEmbedding())
    store.add_vectors([Document("c", id="c")], [[3, 4]])
    assert store.similarity_search_by_vector([1, 1])
    store.delete()
    store.add_vectors([Document("d", id="d")], [[3, 4, 5]])
    assert [each.id for each in store.similarity_search_by_vector([1, 1, 1])] == ["d"]


def test_a_small_store_works_in_virtual_time(kind):
    """Below the measured size, adding and searching need no thread."""

    async def program():
        store = await kind.afrom_texts(["a", "b"], Inline())
        await store.adelete(["no such id"])
        return await store.asimilarity_search("a", k=1)

    class Inline(WordEmbedding):
        async def aembed_documents(self, texts):
            return self.embed_documents(texts)

        async def aembed_query(self, text):
            return self.embed_query(text)

    assert [each.page_content for each in simulate(program).value] == ["a"]


def test_a_blank_page_is_passed_over(kind, side, caplog):
    """It is named in the log; what is returned are the ids of the others."""
    store = kind(GivenEmbedding({"a": [1, 0], "b": [0, 1]}))
    pages = [Document("a", id="1"), Document(" \n"), Document("", id="3"), Document("b", id="4")]
    assert side(store).add_documents(pages) == ["1", "4"]
    assert store.size == 2
    assert "document 1 (' \\n'), '3'" in caplog.text


def test_a_page_of_no_use_is_named_as_its_caller_knows_it():
    """By its own id, or by its place and first words: not by an id that was drawn in the call."""
    store = MatrixVectorStore(GivenEmbedding({"a": [1, 0], "b": [0, 0]}))
    with pytest.raises(ValueError, match=r"the vector of document 1 \('b'\) has no direction"):
        store.add_texts(["a", "b"])
    with pytest.raises(ValueError, match="the vector of 'mine' has no direction"):
        store.add_texts(["a", "b"], ids=[None, "mine"])
    with pytest.raises(ValueError, match=r"the vector of document 0 \('b'\)"):
        store.add_vectors([Document("b")], [[0.0, 0.0]])
    assert store.size == 0
