"""Vectors of the handbook's passages, made in advance: `minilm/passages.npz`.

Made here, a vector takes 40 ms of a core; read, all of them take a few. They are found by a hash of
model and text, so that a passage that was edited is simply not found, and encoded as any other.

`python -m course_lib.service.knowledge.stored` writes the file.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np

from course_lib.service.knowledge.encoders import Encoder, MiniLM, Vector, unit

__all__ = ["STORED", "StoredVectors", "write"]

STORED: Final = Path(__file__).parent / "minilm" / "passages.npz"

log = logging.getLogger(__name__)


class StoredVectors:
    """Vectors by text, read from a file; none if it is not there or not readable.

    Args:
        model: Name of the model that they have to be of.
        path: The file.
    """

    def __init__(self, model: str, path: Path = STORED) -> None:
        self._model = model
        self._vectors: dict[bytes, Vector] = {}
        try:
            self._vectors.update(_read(path))
        except FileNotFoundError:
            pass
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            log.warning("%s cannot be read (%s): vectors are made when asked for", path, error)

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, text: str) -> Vector | None:
        """Return the vector of a text, or None."""
        return self._vectors.get(_key(self._model, text)) if self._vectors else None


def _read(path: Path) -> dict[bytes, Vector]:
    with np.load(path, allow_pickle=False) as file:
        keys, vectors = file["keys"], file["vectors"]
    return {key.tobytes(): unit(vector) for key, vector in zip(keys, vectors, strict=True)}


def write(encoder: Encoder, texts: Sequence[str], path: Path = STORED) -> None:
    """Encode texts and write their vectors, as float16: exact to a cosine of 1e-6."""
    keys = [_key(encoder.name, text) for text in texts]
    vectors = np.stack([encoder.encode(text) for text in texts]).astype(np.float16)
    np.savez(path, keys=np.array([list(key) for key in keys], dtype=np.uint8), vectors=vectors)


def _key(model: str, text: str) -> bytes:
    return hashlib.sha256(f"{model}\0{text}".encode()).digest()


def main() -> None:
    """Write the vectors of the handbook."""
    from course_lib.service.knowledge.corpus import load_passages  # noqa: PLC0415

    write(MiniLM(), [passage.text for passage in load_passages()])


if __name__ == "__main__":
    main()
