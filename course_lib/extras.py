"""What `pip install course-lib` alone does not bring: a part says which extra it needs."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needs"]


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Say how to install what is missing, where an import inside finds no module.

    Args:
        extra: One of this package's extras, as in pyproject.toml.

    Raises:
        ModuleNotFoundError: A module is missing; `name` is the module's.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        fix = f"pip install 'course-lib[{extra}]'"
        raise ModuleNotFoundError(f"{error.name} is missing: {fix}", name=error.name) from error
