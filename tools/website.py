"""Build the website into `build/site`: notebooks with their stored outputs, pages, API, search.

    python tools/website.py            build it; any warning fails
    python tools/website.py --serve    and look at it on loopback

Pages keep their places of the repository, so that the links that work there work here.
"""

import argparse
import http.server
import re
import shutil
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import nbformat

ROOT = Path(__file__).resolve().parents[1]
SOURCE, TARGET = ROOT / "build" / "site-source", ROOT / "build" / "site"
PACKAGES = (
    "async_batch",
    "rate_limiting",
    "batching",
    "caching",
    "monitoring",
    "rag",
    "rag.scale_out",
    "service",
    "lab",
    "lab.plots",
)
CORPUS = "course_lib/service/corpus"
TITLE_WITH_ID = re.compile(r"^(#+) (.+?) *\{#([\w-]+)\}$", re.MULTILINE)
HEADING_LINK = re.compile(r"\]\(#([^)]+)\)")
# Pages that are lists of others: title, what stands above the list, the files.
LISTS = {
    "notebooks.md": ("The six notebooks", "Solutions are folded.", "notebooks/0*.ipynb"),
    "handbook.md": (
        "The handbook",
        "Two hundred short passages, which the course's provider searches.",
        f"{CORPUS}/*.md",
    ),
    "teach.md": ("Teach", "For a workshop's room.", "docs/instructor/*.*"),
    "project.md": ("The project", "What has changed, and how to join.", "[A-Z]*.md"),
}


def lay_out(source: Path) -> None:
    """Copy what the website is made of, each file in its place of the repository."""
    shutil.rmtree(source, ignore_errors=True)
    for pattern in ("[CS]*.md", "LICENSE", "docs/**/*", "course_lib/**/*.py", f"{CORPUS}/*.md"):
        for file in ROOT.glob(pattern):
            if file.is_file() and "site" not in file.relative_to(ROOT).parts:
                put(source / file.relative_to(ROOT), file.read_bytes())
    for page in source.glob(f"{CORPUS}/*.md"):
        page.write_text(TITLE_WITH_ID.sub(r"(\3)=\n\1 \2", page.read_text("utf-8")), "utf-8")
    index = source / "docs/howto/README.md"
    index.write_text(
        index.read_text("utf-8") + "\n```{toctree}\n:hidden:\n:glob:\n\n*\n```\n", "utf-8"
    )
    for notebook in sorted(ROOT.glob("notebooks/0*.ipynb")):
        put(source / notebook.relative_to(ROOT), with_folded_solutions(notebook).encode())
    for name, (title, intro, pattern) in LISTS.items():
        files = sorted(str(each.relative_to(source)) for each in source.glob(pattern))
        put(source / name, toctree(title, intro, files).encode())
    for package in PACKAGES:
        put(source / "api" / f"{package}.md", reference(package).encode())
    pages = [f"{package}.md" for package in PACKAGES]
    put(source / "api/index.md", toctree("API", "Every public name.", pages).encode())
    for name in ("conf.py", "index.md"):
        put(source / name, (ROOT / "docs/site" / name).read_bytes())
    put(source / "_static/site.css", (ROOT / "docs/site/site.css").read_bytes())


def put(path: Path, content: bytes) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def with_folded_solutions(path: Path) -> str:
    """Return a solved notebook in which each exercise shows its stub, its solution folded below."""
    stubs = nbformat.read(path, as_version=4)
    solved = nbformat.read(path.parent / "solutions" / path.name, as_version=4)
    cells = []
    for stub, cell in zip(stubs.cells, solved.cells, strict=True):
        if cell.cell_type == "markdown":
            stub.source = HEADING_LINK.sub(lambda link: f"](#{slug(link[1])})", stub.source)
            cells.append(stub)  # without the line that this is the solved version
            continue
        if stub.source != cell.source and "predict(" not in stub.source:
            cells.append(nbformat.v4.new_code_cell(stub.source))
            cell.metadata.tags = [*cell.metadata.get("tags", []), "hide-cell"]
        cell.metadata.mystnb = {"image": {"alt": alternative_text(cell)}}
        cells.append(cell)
    stubs.cells = cells
    return nbformat.writes(stubs)


def slug(anchor: str) -> str:
    """Return the website's anchor of a heading, which JupyterLab knows by another one."""
    return re.sub(r"[^\w-]", "", unquote(anchor)).lower()


def alternative_text(cell: nbformat.NotebookNode) -> str:
    """Return what a cell's pictures show, in words."""
    texts = (each.get("metadata", {}).get("image/png", {}).get("alt") for each in cell.outputs)
    return " ".join(filter(None, texts))


def toctree(title: str, intro: str, files: list[str]) -> str:
    """Return a page that lists others."""
    return "\n".join(
        [f"# {title}", "", intro, "", "```{toctree}", ":maxdepth: 1", "", *files, "```"]
    )


def reference(package: str) -> str:
    """Return the page of a package's public names."""
    module = import_module(f"course_lib.{package}")
    things = {name: getattr(module, name) for name in module.__all__}
    lines = [f".. automodule:: {module.__name__}", "   :no-members:", ""]
    for name, thing in things.items():
        if not isinstance(thing, ModuleType):
            lines += [f".. {directive(thing)}:: {module.__name__}.{name}", ""]
    return "\n".join([f"# {package}", "", "```{eval-rst}", *lines, "```", ""])


def directive(thing: object) -> str:
    """Return what documents a public name in Sphinx."""
    if isinstance(thing, type):
        return "autoclass"
    return "autofunction" if callable(thing) else "autodata"


def build(source: Path, target: Path) -> int:
    """Run Sphinx anew; return its exit status."""
    shutil.rmtree(target, ignore_errors=True)
    options = ["-b", "html", "-q", "-W", "--keep-going", "-d", target.with_name("site-doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, source, target]
    return subprocess.run(command, check=False).returncode


def serve(folder: Path) -> None:
    """Serve the website on loopback until it is interrupted."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        print(f"http://127.0.0.1:{server.server_port}/  (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def main() -> int:
    """Lay out, build, and serve if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--serve", action="store_true", help="look at it on loopback")
    options = parser.parse_args()
    lay_out(SOURCE)
    status = build(SOURCE, TARGET)
    if status == 0 and options.serve:
        serve(TARGET)
    return status


if __name__ == "__main__":
    sys.exit(main())
