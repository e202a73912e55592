"""Models that turn a text into a vector; the best one that is installed.

MiniLM reads a text with a transformer: 3 to 40 ms each, more for longer ones. Where it cannot be
used, wordllama averages vectors of words: 0.05 ms, and clearly worse at paraphrases. Both run on
this machine, from files that a package brought along; nothing is downloaded.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from course_lib.service.knowledge.model import ModelError, verify

__all__ = ["Encoder", "MiniLM", "Vector", "WordLlama", "load_encoder"]

Vector = NDArray[np.float32]

TOKENIZER: Final = Path(__file__).parent / "minilm" / "tokenizer.json"

LONGEST: Final = 256
"""Tokens of a text that MiniLM reads; the rest is cut off. It was trained with as many."""

log = logging.getLogger(__name__)


class Encoder(Protocol):
    """Turns texts into vectors of length 1; may be called from several threads.

    Attributes:
        name: What the model is called, in answers and in the list of models.
        dimensions: Numbers in a vector.
        stands_in: Why a better model could not be loaded; "" if there is none.
    """

    name: str
    dimensions: int
    stands_in: str

    def encode(self, text: str) -> Vector:
        """Return the vector of a text, of shape `(dimensions,)`."""


class MiniLM:
    """all-MiniLM-L6-v2 with int8 weights, on ONNX Runtime.

    The vector is the mean over the tokens of the last layer, scaled to length 1 (Reimers and
    Gurevych, "Sentence-BERT", 2019). One text at a time: on a CPU a batch is no faster, as it
    pads all of its texts to the longest.

    Raises:
        ModelError: The model, its runtime or its tokenizer is missing or not as expected.
    """

    name = "all-MiniLM-L6-v2-int8"
    dimensions = 384
    stands_in = ""

    def __init__(self) -> None:
        path = verify()
        with _loading("MiniLM", "pip install -r requirements.lock"):
            self._tokenizer = _tokenizer(TOKENIZER)
            self._session = _session(path)

    def encode(self, text: str) -> Vector:
        """Return the vector of a text, of shape `(384,)`."""
        # As a batch of one: `encode` would hold the GIL while it reads all of a long text.
        (encoding,) = self._tokenizer.encode_batch([text])
        ids = np.array([encoding.ids], dtype=np.int64)
        feeds = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        (states,) = self._session.run(None, feeds)
        return unit(states[0].mean(axis=0))


def _tokenizer(path: Path) -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # callers bring threads
    tokenizers: Any = import_module("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    return tokenizer


def _session(path: Path) -> Any:
    # Before it is loaded: it would look up a host of its maker's and keep an id of this device.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    onnxruntime: Any = import_module("onnxruntime")  # 0.2 s: only where it is used
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # callers bring threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class WordLlama:
    """Static vectors of words, averaged: the fallback.

    Raises:
        ModelError: The package is missing or not as expected.
    """

    name = "wordllama-256"
    dimensions = 256
    stands_in = ""

    def __init__(self) -> None:
        with _loading("wordllama", "pip install 'wordllama>=0.4'"), _root_logger_kept():
            wordllama: Any = import_module("wordllama")
            folder = Path(wordllama.__file__).parent  # holds the weights: nothing to download
            self._model: Any = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)

    def encode(self, text: str) -> Vector:
        """Return the vector of a text, of shape `(256,)`."""
        return unit(self._model.embed([text])[0])


def unit(vector: Any) -> Vector:
    """Return a vector scaled to length 1; one of zeros stays as it is."""
    array: Vector = np.asarray(vector, dtype=np.float32)
    length = float(np.linalg.norm(array))
    return array / length if length else array


def load_encoder(kinds: tuple[Callable[[], Encoder], ...] = (MiniLM, WordLlama)) -> Encoder:
    """Return the first model that can be loaded; if it is not the first, it and the log say why.

    Raises:
        ModelError: There is none; the message has the reason of each, and what to install.
    """
    reasons: list[str] = []
    for kind in kinds:
        try:
            encoder = kind()
        except ModelError as error:
            reasons.append(str(error))
            continue
        if reasons:
            encoder.stands_in = " ".join(reasons)
            log.warning("embeddings come from %s: %s", encoder.name, encoder.stands_in)
        return encoder
    raise ModelError(f"there is no embedding model. {' Or: '.join(reasons)}")


@contextmanager
def _loading(what: str, remedy: str) -> Iterator[None]:
    """Say what to do about whatever goes wrong while a model is loaded."""
    try:
        yield
    except Exception as error:  # packages of others: anything from ImportError to their own
        raise ModelError(f"{what} cannot be loaded ({error}): {remedy}") from error


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Undo what an import does to the root logger."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
