"""Public names stay, and each of them is shown: in a notebook, or on a page that the README links."""

import ast
import inspect
import re
import textwrap
import tomllib
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import NamedTuple

import pytest
from howto_pages import FOLDER, ROOT, blocks, found_from
from import_graph import Package, imports_in

LIST = tomllib.loads((ROOT / "tests" / "public_names.toml").read_text("utf-8"))
DROPPED, ADDED = LIST.pop("dropped"), LIST.pop("added")
COURSE = Package(ROOT / "course_lib")
SOURCES = sorted((ROOT / "notebooks" / "sources").glob("*.py"))
PROTOCOL = {"__aiter__", "__anext__", "__enter__", "__aenter__", "__getitem__", "__iter__"}

each_package = pytest.mark.parametrize("package", LIST)


def problems_with(names, start, dropped, added):
    """What differs from the list at the start and is not said there, one line each."""
    wanted = (set(start) - set(dropped)) | set(added)
    yield from (f"{name} is missing: bring it back, or say why" for name in wanted - set(names))
    yield from (f"{name} is still there" for name in set(names) & set(dropped))
    yield from (
        f"{name} is new: say what for in [added]" for name in set(names) - wanted - set(dropped)
    )
    yield from (f"{name} was never there" for name in set(dropped) - set(start))


def below(package, marked):
    """Of names such as "lab.plots.bars" those of one package, without it."""
    pairs = (name.rpartition(".") for name in marked)
    return [name for home, _, name in pairs if home == package]


def used_in(tree):
    """The dotted names of the package that a program uses, those in programs that it holds, too.

    A name is used where it is imported, and where it is asked of an imported module.
    """
    course = [each for each in imports_in(tree) if each.base.partition(".")[0] == COURSE.name]
    modules = {each.bound: each.full for each in course}
    found = {each.full for each in course} | set(asked_of(tree, modules))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and COURSE.name in str(node.value):
            with suppress(SyntaxError):  # no program
                found |= used_in(ast.parse(textwrap.dedent(node.value)))
    return found


def asked_of(node, modules):
    """The names that a program asks of modules, but where a parameter has a module's name."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        own = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)}
        modules = {name: full for name, full in modules.items() if name not in own}
    elif isinstance(node, ast.Attribute) and re.fullmatch(r"\w+(\.\w+)+", ast.unparse(node)):
        first, _, rest = ast.unparse(node).partition(".")
        if first in modules:
            yield f"{modules[first]}.{rest}"
    for each in ast.iter_child_nodes(node):
        yield from asked_of(each, modules)


def is_error(thing):
    """Whether a name is an exception's."""
    return isinstance(thing, type) and issubclass(thing, BaseException)


def is_frozen(thing):
    """Whether a class is a frozen dataclass or a named tuple."""
    parameters = getattr(thing, "__dataclass_params__", None)
    return getattr(parameters, "frozen", False) or hasattr(thing, "_fields")


def returned_by(thing):
    """The words in what a public function returns, or a class's methods, properties and fields."""
    functions = [thing]
    words = ""
    if isinstance(thing, type):
        members = [pair for base in thing.__mro__ for pair in vars(base).items()]
        public = [each for name, each in members if name in PROTOCOL or not name.startswith("_")]
        functions = [
            getattr(each, "fget", None) or getattr(each, "__func__", each) for each in public
        ]
        if is_frozen(thing):
            words = " ".join(map(str, thing.__annotations__.values()))
    for each in filter(inspect.isfunction, functions):
        words += f" {each.__annotations__.get('return', '')}"
    return set(re.findall(r"\w+", words))


@cache
def programs():
    """(where, tree) of each notebook's source and of each program on a page that is linked."""
    found = [(source.name, ast.parse(source.read_text("utf-8"))) for source in SOURCES]
    for page in sorted(found_from(ROOT / "README.md", FOLDER)):
        found += [(page.name, ast.parse(block)) for block in blocks(page, "python")]
    return found


@cache
def shown():
    """All names that readers are shown."""
    return set().union(*(used_in(tree) for _, tree in programs()))


def behind_a_face(package, name):
    """Whether a dotted name leads to what a package's `__init__` does not export."""
    home, rest = name, ""
    while home not in package.files or not package.is_package(home):
        home, _, last = home.rpartition(".")
        rest = f"{last}.{rest}"
    first = rest.partition(".")[0]
    return home != package.name and first != "" and first not in package.exported(home)


@each_package
def test_names_are_those_of_the_start(package):
    """But for those that were dropped or added on purpose, with the reason."""
    names = COURSE.public(f"course_lib.{package}")
    listed = (LIST[package]["names"], below(package, DROPPED), below(package, ADDED))
    if problems := sorted(problems_with(names, *listed)):
        pytest.fail("\n".join(problems), pytrace=False)


@each_package
def test_every_name_is_shown(package):
    """A name that no reader meets is not worth its lines; results and errors come by themselves."""
    module = import_module(f"course_lib.{package}")
    unseen = [
        name
        for name in COURSE.public(f"course_lib.{package}")
        if name not in LIST[package].get("results", ()) and not is_error(getattr(module, name))
        if f"course_lib.{package}.{name}" not in shown()
    ]
    if unseen:
        pytest.fail(f"shown nowhere: {', '.join(unseen)}", pytrace=False)


@each_package
def test_results_are_what_calls_return(package):
    """Frozen, and returned by something else that is public: a tool cannot hide among them."""
    module = import_module(f"course_lib.{package}")
    public = {name: getattr(module, name) for name in COURSE.public(f"course_lib.{package}")}
    for name in LIST[package].get("results", ()):
        assert is_frozen(public[name]), f"{name} can be changed"
        makers = {other for other, thing in public.items() if name in returned_by(thing)}
        assert makers - {name}, f"nothing public returns {name}"


def test_readers_are_shown_nothing_else():
    """Notebooks and pages use what packages export; what lies behind may be moved at any time."""
    past = [
        f"{where} uses {name}"
        for where, tree in programs()
        for name in sorted(used_in(tree))
        if behind_a_face(COURSE, name)
    ]
    if past:
        pytest.fail("\n".join(past), pytrace=False)


# --- the tests of these tests -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "dropped", "added", "problem"),
    [
        (["a"], [], [], "b is missing"),
        (["a", "b", "c"], [], [], "c is new"),
        (["a", "b"], ["b"], [], "b is still there"),
        (["a", "b"], [], ["c"], "c is missing"),
        (["a", "b"], ["c"], [], "c was never there"),
        (["a", "b"], [], [], None),
        (["a", "c"], ["b"], ["c"], None),
    ],
)
def test_a_list_that_differs_is_found(names, dropped, added, problem):
    """From a start with `a` and `b`."""
    found = list(problems_with(names, ["a", "b"], dropped, added))
    assert [each.partition(":")[0] for each in found] == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("program", "used"),
    [
        ("from course_lib.caching import cached", {"caching.cached"}),
        ("from course_lib import rag\nrag.RagPipeline(1).x", {"rag", "rag.RagPipeline"}),
        ("from course_lib.lab import plots\nplots.bars(1)", {"lab.plots", "lab.plots.bars"}),
        ("import course_lib.lab as bench\nbench.simulate", {"lab", "lab.simulate"}),
        ("cached(rag)", set()),
        ("from course_lib import rag\ndef f(rag):\n    rag.RagPipeline", {"rag"}),
        ("CHILD = '''\n    from course_lib.caching import cached\n'''", {"caching.cached"}),
        ("'course_lib is no program'", set()),
    ],
)
def test_uses_are_seen(program, used):
    """Imports, attributes of imported modules, and programs for a child process."""
    assert used_in(ast.parse(program)) == {f"course_lib.{name}" for name in used}


@pytest.mark.parametrize(
    ("name", "behind"),
    [
        ("caching.cached", False),
        ("caching.cached.anything", False),
        ("caching", False),
        ("errors.Unavailable", False),
        ("lab.plots.bars", False),
        ("caching.keys", True),
        ("rag.quality.ndcg", True),
        ("service.knowledge.corpus.load_passages", True),
    ],
)
def test_ways_behind_a_face_are_seen(name, behind):
    """Modules and names of a package that its `__init__` does not export."""
    assert behind_a_face(COURSE, f"course_lib.{name}") is behind


def test_a_page_that_nobody_links_shows_nothing(tmp_path):
    """Pages count that can be reached from the README, also over another page."""
    folder = tmp_path / "howto"
    folder.mkdir()
    for name, text in {"a": "[b](b.md#part)", "b": "[a](a.md)", "c": "[a](a.md)"}.items():
        (folder / f"{name}.md").write_text(text)
    readme = tmp_path / "README.md"
    readme.write_text("[a](howto/a.md), [web](https://howto/c.md)\n```\n[c](howto/c.md)\n```\n")
    assert {page.stem for page in found_from(readme, folder)} == {"a", "b"}


class Made(NamedTuple):
    """A result."""

    part: bytes


class Tool:
    """What makes results."""

    def make(self) -> Made:
        raise NotImplementedError

    @property
    def last(self) -> "Made | None":
        raise NotImplementedError

    def _hidden(self) -> bytearray:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("thing", "frozen", "returns"), [(Tool, False, "Made"), (Made, True, "bytes")]
)
def test_results_are_told_from_tools(thing, frozen, returns):
    """By what can be changed, and by what public methods, properties and fields are said to be."""
    assert is_frozen(thing) is frozen
    assert returns in returned_by(thing)
    assert "bytearray" not in returned_by(thing)
