"""The models that make vectors, those made in advance, and the embedder that serves them."""

import asyncio
import itertools
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from course_lib.service.knowledge import embedder as module
from course_lib.service.knowledge import encoders
from course_lib.service.knowledge.corpus import load_passages
from course_lib.service.knowledge.embedder import Embedder
from course_lib.service.knowledge.encoders import MiniLM, WordLlama, load_encoder, unit
from course_lib.service.knowledge.model import ModelError
from course_lib.service.knowledge.stored import StoredVectors, write
from course_lib.service.model_replies import models

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def minilm():
    """The default model."""
    return MiniLM()


@pytest.fixture(scope="module")
def handbook():
    """Texts of the handbook's passages."""
    return [passage.text for passage in load_passages()]


class Lengths:
    """A model whose vectors are lengths of texts; counts what it is asked."""

    name = "lengths"
    dimensions = 2
    stands_in = ""

    def __init__(self):
        self.asked = Counter()
        self.started, self.go = threading.Event(), threading.Event()
        self.go.set()

    def encode(self, text):
        """Return the length, once there is leave to."""
        self.asked[text] += 1
        self.started.set()
        assert self.go.wait(60)
        if text == "broken":
            raise ValueError(text)
        return np.array([len(text), 1], dtype=np.float32)


@pytest.fixture
def lengths():
    """The counting model, which lets its threads go at the end."""
    model = Lengths()
    yield model
    model.go.set()


def test_similar_texts_have_similar_vectors(minilm):
    """A paraphrase is nearer than another subject; vectors have length 1."""
    car, automobile, soup = map(minilm.encode, ("a fast car", "quick automobile", "tomato soup"))
    assert car @ automobile > 0.6
    assert car @ soup < 0.3
    assert np.linalg.norm(car) == pytest.approx(1, abs=1e-6)
    assert (car.shape, car.dtype) == ((384,), np.float32)


def test_a_long_text_is_read_up_to_256_tokens(minilm):
    """Not only to the 128 of the tokenizer's file; what follows changes nothing."""
    words = ["token"] * 400
    half, whole, more = (minilm.encode(" ".join(words[:n])) for n in (120, 254, 400))
    assert not np.allclose(half, whole, atol=1e-4)
    assert np.array_equal(whole, more)


def test_the_loop_runs_on_while_a_huge_text_is_cut_into_tokens(minilm):
    """The tokenizer lets go of the GIL: no gap is nearly as long as its work."""

    async def main():
        work = asyncio.create_task(asyncio.to_thread(minilm.encode, "a" * 1_000_000))
        looks = [time.perf_counter()]
        while not work.done():
            await asyncio.sleep(0.001)
            looks.append(time.perf_counter())
        return looks

    looks = asyncio.run(main())
    gaps = [late - early for early, late in itertools.pairwise(looks)]
    assert max(gaps) < (looks[-1] - looks[0]) / 2


def test_the_vectors_made_in_advance_are_those_of_the_handbook(minilm, handbook):
    """Every passage has one, and a sample is what the model gives now.

    If this fails after an edit: python -m course_lib.service.knowledge.stored
    """
    stored = StoredVectors(minilm.name)
    assert [text[:60] for text in handbook if stored.get(text) is None] == []
    assert len(stored) == len(handbook)
    for text in handbook[::40]:
        assert stored.get(text) @ minilm.encode(text) > 0.999


def test_vectors_of_another_model_or_text_are_not_found(tmp_path, lengths):
    """The hash covers both; a file that is not there holds none."""
    path = tmp_path / "vectors.npz"
    assert StoredVectors("lengths", path).get("four") is None
    write(lengths, ["four"], path)
    assert StoredVectors("lengths", path).get("four") == pytest.approx(unit([4, 1]), abs=1e-3)
    assert StoredVectors("lengths", path).get("five") is None
    assert StoredVectors("another", path).get("four") is None


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + bytes(18)])
def test_vectors_that_cannot_be_read_are_made_when_asked_for(tmp_path, caplog, content):
    """They only save time: a broken file is a warning, no failure of all that needs vectors."""
    path = tmp_path / "vectors.npz"
    path.write_bytes(content)
    assert StoredVectors("lengths", path).get("four") is None
    assert "vectors.npz cannot be read" in caplog.text


def test_the_fallback_leaves_the_root_logger_alone():
    """Its import would set the level and add a handler."""
    pytest.importorskip("wordllama", reason="an extra, without wheels for some systems")
    code = (
        "import logging; from course_lib.service.knowledge.encoders import WordLlama;"
        "before = logging.root.level, list(logging.root.handlers); m = WordLlama();"
        "assert (logging.root.level, logging.root.handlers) == before;"
        "print(m.encode('a fast car') @ m.encode('quick automobile')"
        " > m.encode('a fast car') @ m.encode('tomato soup'), m.encode('x').shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("True (256,)\n", "")


def missing():
    """A model that is not there."""
    raise ModelError("A is not installed: pip install a.")


def test_the_next_model_stands_in_and_the_log_says_why(lengths, caplog):
    """With what to install, as does the list of models."""
    with caplog.at_level(logging.WARNING):
        assert load_encoder((missing, lambda: lengths)) is lengths
    assert "embeddings come from lengths: A is not installed: pip install a." in caplog.text
    listed = models(lengths, "")[1]
    assert listed["description"].endswith("It stands in: A is not installed: pip install a.")


def test_without_any_model_the_error_names_all():
    """What to install for each."""
    with pytest.raises(ModelError, match=r"no embedding model.*pip install a\. Or: A is not"):
        load_encoder((missing, missing))


@pytest.mark.parametrize(
    ("kind", "package"),
    [(MiniLM, "onnxruntime"), (MiniLM, "tokenizers"), (WordLlama, "wordllama")],
)
def test_a_missing_package_is_named(kind, package, monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=rf"cannot be loaded \(.*{package}.*\): pip install"):
        kind()


def test_whatever_is_wrong_with_a_model_lets_the_next_one_stand_in(lengths, monkeypatch, tmp_path):
    """A tokenizer that is not there, a package that fails when it is imported."""
    monkeypatch.setattr(encoders, "TOKENIZER", tmp_path / "none.json")
    tmp_path.joinpath("wordllama.py").write_text("raise RuntimeError('built for another numpy')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wordllama", raising=False)
    assert load_encoder((MiniLM, WordLlama, lambda: lengths)) is lengths
    assert re.search("MiniLM cannot be loaded .*wordllama cannot be loaded", lengths.stands_in)


def embed(model, *requests):
    """Embed several lists of texts at once."""

    async def main():
        service = Embedder(lambda: model)
        return await asyncio.gather(*(service.embed(texts) for texts in requests))

    return asyncio.run(main())


def test_vectors_come_in_the_order_of_the_texts(lengths):
    """A text that is there twice has its vector twice, and is encoded once."""
    texts = ["a" * n for n in (3, 1, 2, 3)] * 20
    (found,) = embed(lengths, texts)
    assert found[:, 0].tolist() == [3, 1, 2, 3] * 20
    assert set(lengths.asked.values()) == {1}


def test_requests_at_once_share_the_work_on_a_text(lengths):
    """Also while it is going on."""
    embed(lengths, ["aa", "b"], ["b", "ccc"], ["aa"])
    assert lengths.asked == {"aa": 1, "b": 1, "ccc": 1}


def test_no_texts_have_no_vectors(lengths):
    """An empty matrix of the right width."""
    assert embed(lengths, [])[0].shape == (0, 2)


def test_who_leaves_does_not_take_the_vector_from_the_others(lengths):
    """And of a long list little is encoded after its client is gone."""
    lengths.go.clear()

    async def main():
        service = Embedder(lambda: lengths)
        leaving = asyncio.create_task(service.embed(["x" * n for n in range(1, 500)]))
        await asyncio.to_thread(lengths.started.wait, 60)
        staying = asyncio.create_task(service.embed(["x"]))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        lengths.go.set()
        return await staying

    assert asyncio.run(main()).tolist() == [[1, 1]]
    assert len(lengths.asked) <= 2 * module.MOST_THREADS
    assert lengths.asked["x"] == 1


def test_who_leaves_while_the_model_is_loaded_leaves_it_to_the_others(lengths):
    """It is loaded once."""
    loads = []

    def load():
        loads.append(1)
        lengths.started.set()
        assert lengths.go.wait(60)
        return lengths

    async def main():
        service = Embedder(load)
        leaving = asyncio.create_task(service.embed(["a"]))
        await asyncio.to_thread(lengths.started.wait, 60)
        staying = asyncio.create_task(service.embed(["a"]))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        lengths.go.set()
        return await staying

    lengths.go.clear()
    assert asyncio.run(main()).tolist() == [[1, 1]]
    assert loads == [1]


def test_an_error_reaches_everybody_and_is_not_kept(lengths):
    """The next request tries again."""

    async def main():
        service = Embedder(lambda: lengths)
        tasks = [service.embed(["broken"]), service.embed(["broken"]), service.embed(["fine"])]
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(ValueError, match="broken"):
            await service.embed(["broken"])
        return outcomes

    outcomes = asyncio.run(main())
    assert [type(each) for each in outcomes[:2]] == [ValueError] * 2
    assert outcomes[2].tolist() == [[4, 1]]
    assert lengths.asked["broken"] == 2


def test_memory_is_bounded(lengths, monkeypatch):
    """The vectors longest unused are dropped."""
    monkeypatch.setattr(module, "KEPT", 3)

    async def main():
        service = Embedder(lambda: lengths)
        for text in ("a", "bb", "ccc", "a", "dddd", "a", "bb"):
            await service.embed([text])

    asyncio.run(main())
    assert lengths.asked == {"a": 1, "bb": 2, "ccc": 1, "dddd": 1}


def test_texts_themselves_are_not_kept(lengths):
    """Ten thousand long ones would fill the memory; their vectors are small."""
    text = "x" * 100_000 + str(id(lengths))
    before = sys.getrefcount(text)

    service = Embedder(lambda: lengths)

    async def main():
        await service.embed([text])
        await service.embed([text])

    asyncio.run(main())
    lengths.asked.clear()
    service._pool.shutdown()  # a thread drops what it worked on a moment after its result
    assert sys.getrefcount(text) == before


def test_a_missing_model_is_reported_to_every_request():
    """The model is looked for once."""
    looked = []

    def load():
        looked.append(1)
        missing()

    async def main():
        service = Embedder(load)
        calls = itertools.starmap(service.embed, [(["a"],), (["b"],)])
        return await asyncio.gather(service.model(), *calls, return_exceptions=True)

    assert [type(each) for each in asyncio.run(main())] == [ModelError] * 3
    assert looked == [1]


def test_the_loop_runs_on_while_the_model_computes(lengths):
    """The work is done on threads."""
    lengths.go.clear()

    async def main():
        task = asyncio.create_task(Embedder(lambda: lengths).embed(["a"]))
        await asyncio.to_thread(lengths.started.wait, 60)
        lengths.go.set()
        return await task

    assert asyncio.run(main()).tolist() == [[1, 1]]


def test_the_package_file_is_the_tokenizer_of_the_model():
    """Unchanged, as its notice says."""
    import hashlib

    found = hashlib.sha256(encoders.TOKENIZER.read_bytes()).hexdigest()
    assert found == "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"


def test_the_service_starts_without_the_runtime_of_the_model():
    """It is imported by the first request that needs it."""
    code = (
        "import sys; from course_lib.service.__main__ import _app;"
        "from course_lib.service import Behaviour; _app(Behaviour());"
        "print({'onnxruntime', 'tokenizers', 'wordllama'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "set()\n"
