"""A store comes back from its file as it was, and a file that is not whole harms nobody."""

import json
import math
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from vectors_support import WordEmbedding

from course_lib.rag import FaissVectorStore, MatrixVectorStore, VectorFileError

metadata = st.dictionaries(
    st.text(),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
        lambda values: st.lists(values) | st.dictionaries(st.text(), values),
        max_leaves=5,
    ),
    max_size=3,
)


@pytest.fixture
def path(tmp_path):
    """A file that is not there yet, in a folder that is not there either."""
    return tmp_path / "folder" / "store.npz"


@pytest.fixture
def store():
    """A store with some documents."""
    texts = ["a red apple", "a green apple", "one Ünïcode \ud800 pear", "."]
    return MatrixVectorStore.from_texts(
        texts,
        WordEmbedding(),
        [{"n": 1}, {}, {"deep": [{"x": None}]}, {}],
        ids=["1", "2", "3", "4"],
    )


@pytest.mark.parametrize("other", [MatrixVectorStore, FaissVectorStore])
def test_a_store_comes_back_as_it_was(store, path, other):
    """Documents, ids, metadata and scores, without embedding anything, in either class."""
    store.save(path)
    embedding = WordEmbedding()
    loaded = other.load(path, embedding, inline_up_to=0)
    assert loaded.get_by_ids(["1", "2", "3", "4"]) == store.get_by_ids(["1", "2", "3", "4"])
    query = "a red pear"
    assert loaded.similarity_search(query) == store.similarity_search(query)
    assert embedding.embedded == []
    loaded.add_texts(["more"], ids=["5"])
    assert loaded.size == 5


@settings(max_examples=40)  # each writes a file
@given(held=st.lists(st.tuples(st.text().filter(str.strip), metadata), max_size=4))
def test_any_text_and_json_metadata_come_back(held, tmp_path_factory):
    """Whatever JSON holds comes back equal."""
    path = tmp_path_factory.mktemp("held") / "store.npz"
    store = MatrixVectorStore(WordEmbedding())
    documents = [Document(t, id=f"{i}", metadata=m) for i, (t, m) in enumerate(held)]
    store.add_documents(documents)
    store.save(path)
    loaded = MatrixVectorStore.load(path, WordEmbedding())
    assert loaded.get_by_ids([each.id for each in documents]) == documents
    assert loaded.size == len(held)


def test_equal_stores_make_equal_files(store, path, tmp_path):
    """A file depends on nothing but what it holds."""
    store.save(path)
    store.save(tmp_path / "again.npz")
    assert path.read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_metadata_that_json_does_not_know_is_refused(store, path):
    """The message names the document; the file that was there stays, and nothing beside it."""
    store.save(path)
    before = path.read_bytes()
    store.add_documents([Document("x", id="odd one", metadata={"what": object()})])
    with pytest.raises(TypeError, match="metadata of 'odd one' cannot be kept"):
        store.save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(store, path, monkeypatch):
    """A full disk costs the new version, not the old one."""
    store.save(path)
    before = path.read_bytes()
    store.add_texts(["more"])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.save(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_not_there_is_named_as_such(path):
    """It is no damage: the error is Python's own."""
    with pytest.raises(FileNotFoundError):
        MatrixVectorStore.load(path, WordEmbedding())


@settings(max_examples=40)  # each writes a file
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_flipped_byte_is_noticed_or_harmless(where, flip, tmp_path_factory):
    """A file with one wrong byte is refused, or comes back as it was (in padding, time stamps)."""
    path = tmp_path_factory.mktemp("flipped") / "store.npz"
    store = MatrixVectorStore.from_texts(["a", "b"], WordEmbedding(size=4), ids=["1", "2"])
    store.save(path)
    content = bytearray(path.read_bytes())
    content[math.floor(where * len(content))] ^= flip
    path.write_bytes(content)
    try:
        loaded = MatrixVectorStore.load(path, WordEmbedding(size=4))
    except VectorFileError:
        return
    assert loaded.get_by_ids(["1", "2"]) == store.get_by_ids(["1", "2"])
    assert loaded.similarity_search_with_score("a") == store.similarity_search_with_score("a")


@settings(max_examples=40)  # each writes a file
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused(share, tmp_path_factory):
    """However much of it is there."""
    path = tmp_path_factory.mktemp("short") / "store.npz"
    MatrixVectorStore.from_texts(["a", "b"], WordEmbedding(size=4)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: math.floor(share * len(content))])
    with pytest.raises(VectorFileError, match="delete it, and build it again"):
        MatrixVectorStore.load(path, WordEmbedding(size=4))


def head(**changes):
    """The head of a file, changed."""
    return {"format": "course_lib vectors", "version": 1, "about": {}} | changes


UNIT = np.eye(2, dtype=np.float32)
PAIR = [["1", "a", {}], ["2", "b", {}]]


@pytest.mark.parametrize(
    ("content", "vectors", "reason"),
    [
        ({"head": head(version=2), "documents": PAIR}, UNIT, "version 2"),
        ({"head": head(format="other"), "documents": PAIR}, UNIT, "other"),
        ({"head": head()}, UNIT, "documents"),
        ({"head": head(), "documents": PAIR[:1]}, UNIT, "1 documents"),
        ({"head": head(), "documents": PAIR}, UNIT.astype(float), "float64"),
        ({"head": head(), "documents": PAIR}, UNIT[0], "float32"),
        ({"head": head(), "documents": PAIR}, UNIT * 2, "not of length 1"),
        ({"head": head(), "documents": PAIR}, UNIT * np.nan, "not of length 1"),
        ({"head": head(), "documents": [PAIR[0], PAIR[0]]}, UNIT, "come twice"),
        ({"head": head(), "documents": [PAIR[0], [None, "b", {}]]}, UNIT, "missing"),
        ({"head": head(), "documents": [PAIR[0], ["2", 7, {}]]}, UNIT, "page_content"),
        ([], UNIT, "list"),
        ({"head": head(), "documents": PAIR}, np.array([{}, {}]), "pickle"),
    ],
)
def test_what_is_no_such_file_is_refused(path, content, vectors, reason):
    """The reason is in the message; an object that only pickle could read is not read."""
    path.parent.mkdir()
    text = np.frombuffer(json.dumps(content).encode(), np.uint8)
    np.savez(path, text=text, vectors=vectors)
    with pytest.raises(VectorFileError, match=reason):
        MatrixVectorStore.load(path, WordEmbedding())


@pytest.mark.parametrize("content", [b"", b"no zip", b"\x80\x04N.", b"PK\x03\x04"])
def test_other_files_are_refused(path, content):
    """Text, a pickle, half a zip."""
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(VectorFileError):
        MatrixVectorStore.load(path, WordEmbedding())


def test_a_single_array_is_refused(path):
    """NumPy's other format is no file of this kind."""
    path.parent.mkdir()
    with path.open("wb") as file:
        np.save(file, UNIT)
    with pytest.raises(VectorFileError, match="not a zip"):
        MatrixVectorStore.load(path, WordEmbedding())


def test_the_file_is_a_plain_zip_with_json_in_it(store, path):
    """Other programs can read it: two arrays, of which one is text."""
    store.save(path)
    with zipfile.ZipFile(path) as parts:
        assert sorted(parts.namelist()) == ["text.npy", "vectors.npy"]
    with np.load(path, allow_pickle=False) as arrays:
        assert json.loads(arrays["text"].tobytes())["head"] == head()
