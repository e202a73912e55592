"""The how-to pages: which there are, which a reader finds, and the programs on them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "howto"
PAGES = sorted(FOLDER.glob("*.md"))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def links(page):
    """The files that a page links to, made absolute; addresses on the web are left out."""
    targets = LINK.findall(BLOCK.sub("", page.read_text("utf-8")))
    return [(page.parent / target).resolve() for target in targets if "://" not in target]


def found_from(readme, folder):
    """The pages of a folder that a reader comes to from a README, over the links on them."""
    found, todo = set(), [readme]
    while todo:
        page = todo.pop()
        for target in links(page):
            if target not in found and target.suffix == ".md" and target.is_relative_to(folder):
                found.add(target)
                todo.append(target)
    return found


def blocks(page, language):
    """What stands in the fenced blocks of one language on a page, in order."""
    found = BLOCK.findall(page.read_text("utf-8"))
    return [text for name, text in found if name == language]
