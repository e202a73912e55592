"""An index on disk embeds only what is new, and survives failures, damage and rivals."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from vectors_support import WordEmbedding

from course_lib.rag import FaissVectorStore, MatrixVectorStore, open_index
from course_lib.rag.index import INDEX_FILE, fingerprint

ROOT = Path(__file__).resolve().parents[2]
TESTS = Path(__file__).parent
RIVALS = 2

# Builds the same index as its rivals, at the same time, and says what it finds.
BUILD = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from langchain_core.documents import Document
from vectors_support import WordEmbedding
from course_lib.rag import open_index
documents = [Document(f"text number {n}", id=f"{n}") for n in range(200)]
print("ready", flush=True)
sys.stdin.readline()
for turn in range(3):
    opening = open_index(documents[: 200 - turn], WordEmbedding(), sys.argv[1], model_name="words")
    store = asyncio.run(opening)
    assert store.size == 200 - turn
print(store.similarity_search("text number 7", k=1)[0].id)
"""


def documents(*texts):
    """A document for each text, whose id is its first word."""
    return [Document(text, id=text.split()[0], metadata={"n": 1}) for text in texts]


def opened(folder, texts, embedding=None, **settings):
    """The index of some texts, and what had to be embedded for it."""
    embedding = embedding or WordEmbedding()
    settings = {"model_name": "words", **settings}
    store = asyncio.run(open_index(documents(*texts), embedding, folder, **settings))
    return store, embedding.embedded


def test_an_index_is_embedded_once(tmp_path):
    """The second time nothing is embedded and nothing written, and the same is found."""
    texts = ["a red apple", "b green pear", "c blue plum"]
    first, embedded = opened(tmp_path / "folder", texts)
    assert sorted(embedded) == texts
    file = tmp_path / "folder" / INDEX_FILE
    before = file.stat()
    second, embedded = opened(tmp_path / "folder", texts)
    assert embedded == []
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    query = "a green plum"
    found = second.similarity_search_with_score(query)
    assert found == first.similarity_search_with_score(query)
    assert {each.id for each, _ in found} == {"a", "b", "c"}
    assert second.get_by_ids(["a"]) == documents("a red apple")


class OnePageOdd(WordEmbedding):
    """Refuses calls with a blank text, as many a provider does, and knows nothing of one word."""

    def embed_documents(self, texts):
        assert all(map(str.strip, texts))
        return super().embed_documents(texts)

    def embed_query(self, text):
        return [0.0] * self.size if "nothing" in text else super().embed_query(text)


def test_one_page_without_a_direction_does_not_fail_the_others(tmp_path, caplog):
    """It is left out and named, each time; nothing is embedded twice for it."""
    pages = [
        *documents("a red apple", "b nothing"),
        Document(" \n", id="blank"),
        *documents("c plum"),
    ]
    for embedded in (3, 0):
        caplog.clear()
        embedding = OnePageOdd()
        opening = open_index(pages, embedding, tmp_path, model_name="words", batch_size=2)
        store = asyncio.run(opening)
        assert len(embedding.embedded) == embedded
        assert [each.id for each in store.get_by_ids(["a", "b", "blank", "c"])] == ["a", "c"]
        assert "['b', 'blank']" in caplog.text
    with pytest.raises(ValueError, match="no vector that 'other' returned has a direction"):
        opened(tmp_path, ["b nothing"], OnePageOdd(), model_name="other")


def test_only_what_changed_is_embedded_again(tmp_path):
    """New and changed texts; moved, renamed and deleted ones cost nothing."""
    opened(tmp_path, ["a 1", "b 2", "c 3"])
    store, embedded = opened(tmp_path, ["c 3", "a 1 changed", "d 4"])
    assert sorted(embedded) == ["a 1 changed", "d 4"]
    assert store.size == 3
    assert opened(tmp_path, ["c 3", "a 1 changed", "d 4"])[1] == []
    assert opened(tmp_path, ["b 2", "c 3"])[1] == ["b 2"]


def test_a_change_of_metadata_or_id_costs_no_embedding(tmp_path):
    """The documents handed out are the new ones."""
    opened(tmp_path, ["a 1"])
    embedding = WordEmbedding()
    renamed = [Document("a 1", id="new", metadata={"n": 2})]
    for _ in range(2):
        store = asyncio.run(open_index(renamed, embedding, tmp_path, model_name="words"))
        assert store.similarity_search("a") == renamed
    assert embedding.embedded == []


def test_another_model_embeds_everything(tmp_path):
    """Embeddings of one model are not taken for those of another."""
    opened(tmp_path, ["a 1", "b 2"])
    store, embedded = opened(tmp_path, ["a 1", "b 2"], WordEmbedding(8), model_name="other")
    assert len(embedded) == 2
    assert store.similarity_search("a 1", k=1)[0].id == "a"


def test_a_model_that_changed_under_its_name_is_noticed(tmp_path):
    """The message says to give it another name; the file stays."""
    opened(tmp_path, ["a 1"])
    with pytest.raises(ValueError, match="'words' now embeds in 8 dimensions.*holds 64"):
        opened(tmp_path, ["a 1", "b 2"], WordEmbedding(8))
    assert opened(tmp_path, ["a 1"])[1] == []


def test_equal_texts_are_embedded_once(tmp_path):
    """Each document is found all the same."""
    twins = [Document("same", id="1"), Document("same", id="2")]
    embedding = WordEmbedding()
    store = asyncio.run(open_index(twins, embedding, tmp_path, model_name="words"))
    assert embedding.embedded == ["same"]
    assert store.similarity_search("same") == twins


def first_word(document):
    """Short for it."""
    return document.page_content.split()[0]


def test_a_document_is_found_by_its_text_and_returned_whole(tmp_path):
    """Only the text is embedded, once."""
    texts = ["apple with a pear", "pear with an apple"]
    for embedded_now in (["apple", "pear"], []):
        store, embedded = opened(tmp_path, texts, text=first_word)
        assert embedded == embedded_now
        assert store.similarity_search("pear", k=1) == documents("pear with an apple")


def test_a_change_beside_the_text_costs_no_embedding(tmp_path):
    """What is handed out is new all the same."""
    opened(tmp_path, ["a 1", "b 2"], text=first_word)
    store, embedded = opened(tmp_path, ["a 3", "b 2"], text=first_word)
    assert embedded == []
    assert store.similarity_search("a", k=1) == documents("a 3")


def test_another_text_of_the_same_documents_is_embedded(tmp_path):
    """And no other: a text that the file holds is known, whatever function it came from."""
    opened(tmp_path, ["a", "b 2"])
    assert opened(tmp_path, ["a", "b 2"], text=first_word)[1] == ["b"]
    store, embedded = opened(tmp_path, ["a", "b 2"], text=lambda each: each.page_content[::-1])
    assert embedded == ["2 b"]
    assert store.similarity_search("2", k=1)[0].id == "b"


def test_a_text_that_is_none_is_refused_before_embedding(tmp_path):
    """The message names the document."""
    embedding = WordEmbedding()
    with pytest.raises(TypeError, match="returned None for 'b': return the text to embed"):
        opened(tmp_path, ["a 1", "b 2"], embedding, text=lambda each: {"a": "1"}.get(each.id))
    assert embedding.embedded == []
    assert not list(tmp_path.iterdir())


def test_batches_and_progress(tmp_path):
    """Calls have the size asked for, and progress is told after each."""
    told = []
    calls = []

    class Counting(WordEmbedding):
        def embed_documents(self, texts):
            calls.append(len(texts))
            return super().embed_documents(texts)

    settings = {"batch_size": 3, "concurrency": 1}
    settings["progress"] = lambda *numbers: told.append(numbers)
    opened(tmp_path, [f"{n} x" for n in range(7)], Counting(), **settings)
    assert calls == [3, 3, 1]
    assert told == [(3, 7), (6, 7), (7, 7)]


class Failing(WordEmbedding):
    """Fails once, at the third call."""

    calls = 0

    async def aembed_documents(self, texts):
        self.calls += 1
        if self.calls == 3:
            raise ConnectionError("the service is gone")
        return self.embed_documents(texts)


class Hanging(Failing):
    """Hangs at the third call."""

    async def aembed_documents(self, texts):
        if self.calls == 2:
            await asyncio.Event().wait()
        return await super().aembed_documents(texts)


def test_what_was_embedded_before_a_failure_is_kept(tmp_path):
    """The next call embeds the rest."""
    texts = [f"{n} x" for n in range(8)]
    settings = {"batch_size": 2, "concurrency": 1}
    with pytest.raises(ConnectionError):
        opened(tmp_path, texts, Failing(), **settings)
    assert opened(tmp_path, texts)[1] == texts[4:]


def test_a_failure_before_anything_was_embedded_leaves_the_file_alone(tmp_path):
    """What it holds may serve the next call."""
    opened(tmp_path, ["a 1", "b 2"])
    failing = Failing()
    failing.calls = 2
    with pytest.raises(ConnectionError):
        opened(tmp_path, ["c 3"], failing)
    assert opened(tmp_path, ["a 1", "b 2"])[1] == []


def test_what_was_embedded_before_a_cancellation_is_kept(tmp_path):
    """As after a failure."""
    texts = [f"{n} x" for n in range(8)]

    async def program():
        reached = asyncio.Event()
        opening = open_index(
            documents(*texts),
            Hanging(),
            tmp_path,
            model_name="words",
            batch_size=2,
            concurrency=1,
            progress=lambda done, _: reached.set() if done == 4 else None,
        )
        task = asyncio.create_task(opening)
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(program())
    assert opened(tmp_path, texts)[1] == texts[4:]


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_damaged_file_is_built_again(tmp_path, caplog, content):
    """The log says so."""
    opened(tmp_path, ["a 1"])
    file = tmp_path / INDEX_FILE
    file.write_bytes(file.read_bytes()[:-30] if content is None else content)
    store, embedded = opened(tmp_path, ["a 1"])
    assert embedded == ["a 1"]
    assert store.size == 1
    assert "the index is built again" in caplog.text
    assert opened(tmp_path, ["a 1"])[1] == []


def test_any_store_of_the_family_is_filled(tmp_path):
    """A class, or a function of the embedding."""
    store, _ = opened(tmp_path, ["a 1", "b 2"], make_store=FaissVectorStore)
    assert type(store) is FaissVectorStore
    store, embedded = opened(
        tmp_path, ["a 1", "b 2"], make_store=lambda each: MatrixVectorStore(each, inline_up_to=0)
    )
    assert embedded == []
    assert [each.id for each in store.similarity_search("b", k=1)] == ["b"]


def test_no_documents_make_an_empty_index(tmp_path):
    """It can be filled later."""
    assert opened(tmp_path, [])[0].similarity_search("a") == []
    assert opened(tmp_path, [])[1] == []
    assert opened(tmp_path, ["a 1"])[1] == ["a 1"]


def test_processes_that_build_at_once_leave_a_whole_index(tmp_path):
    """Each gets its store, while others write other versions of it."""
    command = [sys.executable, "-c", BUILD, str(tmp_path), str(TESTS)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    rivals = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(RIVALS)]
    for each in rivals:
        assert each.stdout.readline() == "ready\n"
    for each in rivals:
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in rivals:
        out, errors = each.communicate(timeout=60)
        assert (out, errors) == ("7\n", "")
    assert [file.name for file in tmp_path.iterdir()] == [INDEX_FILE]
    held = [Document(f"text number {n}", id=f"{n}") for n in range(198)]
    embedding = WordEmbedding()
    asyncio.run(open_index(held, embedding, tmp_path, model_name="words"))
    assert embedding.embedded == []


@given(
    one=st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=3),
    other=st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=3),
)
def test_fingerprints_differ_where_documents_do(one, other):
    """No text moves between the fields or documents unseen."""
    prints = [
        fingerprint([Document(text, id=name) for name, text in each], "m") for each in (one, other)
    ]
    assert (prints[0] == prints[1]) is (one == other)


@pytest.mark.parametrize(
    ("held", "settings", "message"),
    [
        ([Document("x")], {}, "without id .'x'"),
        (documents("a 1", "a 2"), {}, "'a' is that of two"),
        (documents("a 1"), {"model_name": ""}, "name the embedding model"),
        (documents("a 1"), {"batch_size": 0}, "batch_size=0"),
        (documents("a 1"), {"concurrency": 0}, "concurrency=0"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, held, settings, message):
    """Before anything is read or embedded."""
    settings = {"model_name": "words", **settings}
    with pytest.raises(ValueError, match=message):
        asyncio.run(open_index(held, WordEmbedding(), tmp_path / "folder", **settings))
    assert not (tmp_path / "folder").exists()


def test_metadata_that_json_does_not_know_is_refused_before_embedding(tmp_path):
    """Nothing is paid for that cannot be kept."""
    embedding = WordEmbedding()
    held = [Document("x", id="1", metadata={"what": object()})]
    with pytest.raises(TypeError, match="metadata of '1'"):
        asyncio.run(open_index(held, embedding, tmp_path, model_name="words"))
    assert embedding.embedded == []
