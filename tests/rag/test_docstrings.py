"""Docstrings are read from source, under the names by which people import things."""

import sys
from textwrap import dedent

import pytest
from langchain_core.documents import Document

from course_lib.rag.docstrings import load_docstrings, name_and_summary

# A package that must not be run. Files by name.
PACKAGE = {
    "__init__.py": '''
        """The package."""
        raise SystemExit("imported")
        from ._inside import *
        from .open import Late as Early, _hidden
        try:
            from zoo.deep.burrow import mole
        except ImportError:
            mole = None
        from elsewhere import thing
        ''',
    "_inside.py": '''
        """Private module."""
        __all__ = ("Cat", "_odd")
        class Cat:
            """A cat."""
            def purr(self, volume: int = 1, *, long=False) -> str:
                """Make a sound."""
            def purr(self):
                """Second definition."""
            def _scratch(self):
                """Private."""
            def __len__(self):
                """Special."""
            def silent(self):
                pass
            class Tail:
                """A part."""
                async def wag(self):
                    """Wag it."""
        class Dog:
            """Not handed on."""
        def _odd():
            """Private though named."""
        ''',
    "open.py": '''
        """Public module.

        More about it.
        """
        import sys
        from zoo.deep.burrow import worm
        if sys.platform == "nowhere":
            def branch(a, /, b=[1], *c, **d):
                """In a branch."""
        else:
            def branch():
                """In the other."""
        class Late:
            """Handed on under another name."""
        def _hidden():
            """Private."""
        def outer():
            def inner():
                """Inside a function."""
        ''',
    "deep/__init__.py": "from .burrow import mole",
    "deep/burrow.py": '''
        def mole():
            """Digs."""
        def worm():
            """Digs, too, at C:\\dirt."""
        ''',
    "broken.py": "def (:",
    "tests/__init__.py": '"""Tests."""',
    "__main__.py": '"""Program."""',
}


@pytest.fixture(autouse=True)
def zoo(tmp_path, monkeypatch):
    """The package, installed for one test."""
    for name, content in PACKAGE.items():
        file = tmp_path / "zoo" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(content).lstrip())
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "zoo"


def test_everything_public_is_found_under_its_public_name():
    """What a package hands on has the package's name; what is private, or nobody's, is left out."""
    found = {each.id: each.page_content.partition("\n")[0] for each in load_docstrings(["zoo"])}
    assert found == {
        "zoo": "zoo",
        "zoo.Cat": "class zoo.Cat",
        "zoo.Cat.purr": "zoo.Cat.purr(self, volume: int=1, *, long=False)",
        "zoo.Cat.Tail": "class zoo.Cat.Tail",
        "zoo.Cat.Tail.wag": "async zoo.Cat.Tail.wag(self)",
        "zoo.open": "zoo.open",
        "zoo.open.branch": "zoo.open.branch(a, /, b=[1], *c, **d)",
        "zoo.Early": "class zoo.Early",
        "zoo.mole": "zoo.mole()",
        "zoo.deep.burrow.worm": "zoo.deep.burrow.worm()",
    }


def test_a_document_says_what_it_is_and_where_it_is_from():
    """Text and metadata."""
    found = {each.id: each for each in load_docstrings(["zoo"])}
    assert found["zoo.open"].page_content == "zoo.open\n\nPublic module.\n\nMore about it."
    assert found["zoo.Cat.purr"].page_content.endswith("\n\nMake a sound.")
    assert found["zoo.Cat.purr"].metadata == {
        "source": "zoo._inside",
        "title": "zoo.Cat.purr",
        "kind": "method",
    }
    kinds = {name: found[name].metadata["kind"] for name in ("zoo", "zoo.Cat", "zoo.mole")}
    assert kinds == {"zoo": "module", "zoo.Cat": "class", "zoo.mole": "function"}


def test_nothing_is_imported_or_run():
    """A package that ends the program when it is imported is read all the same."""
    before = set(sys.modules)
    load_docstrings(["zoo", "zoo.deep", "turtle"])
    assert not {name for name in set(sys.modules) - before if name.startswith(("zoo", "turtle"))}


def test_a_module_inside_a_package_can_be_named():
    """Its own name is then the public one; beside its package it adds nothing."""
    assert [each.id for each in load_docstrings(["zoo.deep.burrow"])] == [
        "zoo.deep.burrow.mole",
        "zoo.deep.burrow.worm",
    ]
    both = load_docstrings(["zoo.deep.burrow", "zoo", "zoo"])
    assert both == load_docstrings(["zoo"])


def test_a_file_that_cannot_be_parsed_is_passed_over_with_a_warning(caplog):
    """The others are loaded."""
    assert load_docstrings(["zoo"])
    assert "broken.py is passed over" in caplog.text


def test_long_docstrings_are_cut(zoo):
    """Each piece has the signature before it, and an id of its own."""
    (zoo / "long.py").write_text('def f():\n    """' + "\n\n".join(["word " * 9] * 5) + '"""\n')
    found = load_docstrings(["zoo.long"], max_chars=100)
    assert [each.id for each in found] == ["zoo.long.f", "zoo.long.f-2", "zoo.long.f-3"]
    assert all(each.page_content.startswith("zoo.long.f()\n\nword") for each in found)


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("asyncio.Queue.get_nowait", "asyncio Queue get nowait"),
        ("html.parser.HTMLParser", "html parser HTML Parser"),
        ("unittest.TestCase.assertIsNone", "unittest Test Case assert Is None"),
        ("base64.b64encode", "base64 b64encode"),
        ("__future__._Feature_", "future Feature"),
    ],
)
def test_a_name_is_spelled_as_words(title, words):
    """At dots, underscores, and where a capital begins a word."""
    document = Document("first line\n\nAbout.", metadata={"title": title})
    assert name_and_summary(document) == f"{words}: About."


def test_a_summary_is_the_first_paragraph(zoo):
    """All lines of it, without the signature; a further piece has one of its own."""
    paragraphs = ["One\n    line.", "word " * 9, "Three."]
    (zoo / "long.py").write_text(
        'def f(a="\\n\\n"):\n    """' + "\n\n    ".join(paragraphs) + '"""\n'
    )
    found = load_docstrings(["zoo.long"], max_chars=60)
    assert [name_and_summary(each) for each in found] == [
        "zoo long f: One\nline.",
        "zoo long f: Three.",
    ]


def test_a_document_of_another_kind_has_no_name():
    """The error is that of its metadata."""
    with pytest.raises(KeyError, match="title"):
        name_and_summary(Document("text", id="1"))


def test_the_standard_library_has_the_names_of_its_documentation():
    """Hundreds of passages, among them what is defined somewhere else than it is imported from."""
    found = load_docstrings(["asyncio", "collections", "concurrent.futures", "json", "unittest"])
    names = {each.id for each in found}
    assert len(found) > 400
    assert len(names) == len(found)
    assert names.issuperset(
        {
            "asyncio.Queue.get",
            "asyncio.TaskGroup",
            "asyncio.wait_for",
            "collections.Counter.most_common",
            "concurrent.futures.Executor.submit",
            "json.JSONDecoder",
            "json.dumps",
            "unittest.TestCase.assertEqual",
        }
    )
    assert load_docstrings(["json"]) == [each for each in found if each.id.startswith("json")]


@pytest.mark.parametrize("name", ["no_such_module", "zoo.no_such", "no_such.at_all", ""])
def test_a_module_that_is_not_installed_is_named(name):
    """The error is Python's own."""
    with pytest.raises(ModuleNotFoundError, match=f"no module '{name}'"):
        load_docstrings([name])


def test_modules_in_c_and_of_other_platforms_are_passed_over():
    """The names of the whole standard library can be given on any platform."""
    names = ["sys", "math", "winreg", "nt", "_thread", "this", "abc"]
    assert {each.metadata["source"] for each in load_docstrings(names)} == {"abc"}


@pytest.mark.parametrize(
    ("modules", "settings", "message"),
    [
        (["sys"], {}, "no docstring in sys"),
        ([], {}, "no docstring in no modules"),
        (["json"], {"max_chars": 0}, "max_chars=0"),
    ],
)
def test_bad_arguments_are_refused(modules, settings, message):
    """And modules without any docstring are."""
    with pytest.raises(ValueError, match=message):
        load_docstrings(modules, **settings)


def test_one_string_is_no_list_of_names():
    """Its letters would be taken for modules."""
    with pytest.raises(TypeError, match=r"give a list of names, \['json'\]"):
        load_docstrings("json")
