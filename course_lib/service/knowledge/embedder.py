"""Vectors for requests: computed on threads, remembered, each text once."""

import asyncio
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from course_lib.service.knowledge.encoders import Encoder, Vector, load_encoder
from course_lib.service.knowledge.stored import StoredVectors

__all__ = ["Embedder"]

KEPT: Final = 8_192
"""Texts whose vectors are remembered, under a hash of the text: 13 MB, however long texts are."""

MOST_THREADS: Final = 4

Matrix = NDArray[np.float32]


class Embedder:
    """Turns texts into vectors without stopping the loop.

    The model is loaded when it is first asked for. It releases the GIL, so that threads make use of
    all cores; requests take turns at them, a few texts at a time.

    Args:
        load: Makes the model; called once, on a thread.
    """

    def __init__(self, load: Callable[[], Encoder] = load_encoder) -> None:
        self._load = load
        self._threads = min(MOST_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="embedding")
        self._loading: asyncio.Future[tuple[Encoder, StoredVectors]] | None = None
        self._vectors: OrderedDict[bytes, Vector] = OrderedDict()
        self._busy: dict[str, asyncio.Future[Vector]] = {}

    async def model(self) -> Encoder:
        """Return the model, loaded.

        Raises:
            ModelError: There is none; the message says what to install.
        """
        encoder, _ = await self._loaded()
        return encoder

    async def _loaded(self) -> tuple[Encoder, StoredVectors]:
        if self._loading is None:
            self._loading = asyncio.get_running_loop().run_in_executor(self._pool, self._read)
        if not self._loading.done():
            await asyncio.wait([self._loading])  # who is cancelled leaves the others their model
        return self._loading.result()

    def _read(self) -> tuple[Encoder, StoredVectors]:
        encoder = self._load()
        return encoder, StoredVectors(encoder.name)

    async def embed(self, texts: Sequence[str]) -> Matrix:
        """Return the vectors of texts, in their order, of shape `(len(texts), dimensions)`.

        Raises:
            ModelError: There is no model.
        """
        encoder, stored = await self._loaded()
        found = {text: self._known(text, stored) for text in texts}
        missing = iter([text for text, vector in found.items() if vector is None])
        # In small waves: who is cancelled leaves little undone, and others get their turn.
        while wave := list(islice(missing, 2 * self._threads)):
            await self._compute(encoder, wave, found)
        rows = [found[text] for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), encoder.dimensions)

    def _known(self, text: str, stored: StoredVectors) -> Vector | None:
        key = _key(text)
        vector = self._vectors.get(key)
        if vector is None:
            return stored.get(text)
        self._vectors.move_to_end(key)
        return vector

    async def _compute(
        self, encoder: Encoder, texts: Iterable[str], found: dict[str, Vector | None]
    ) -> None:
        started = {text: self._start(encoder, text) for text in texts}
        await asyncio.wait(started.values())  # cancels none: others may wait for the same text
        found.update((text, vector.result()) for text, vector in started.items())

    def _start(self, encoder: Encoder, text: str) -> "asyncio.Future[Vector]":
        if text not in self._busy:
            loop = asyncio.get_running_loop()
            self._busy[text] = vector = loop.run_in_executor(self._pool, encoder.encode, text)
            vector.add_done_callback(partial(self._keep, text))
        return self._busy[text]

    def _keep(self, text: str, vector: "asyncio.Future[Vector]") -> None:
        del self._busy[text]
        if vector.cancelled() or vector.exception():
            return
        self._vectors[_key(text)] = vector.result()
        if len(self._vectors) > KEPT:
            self._vectors.popitem(last=False)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
