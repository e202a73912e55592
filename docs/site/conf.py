"""How Sphinx builds the website: from a copy of the pages that tools/website.py has laid out."""

from course_lib import __version__

project = "Fast LangChain pipelines"
author = "The maintainers of course-lib"
copyright = author  # noqa: A001 - Sphinx's name
release = __version__
language = "en"
suppress_warnings = ["misc.highlighting_failure"]  # a picture in mermaid stays text

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
]
nb_execution_mode = "off"  # what is stored is what nbval has compared
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "text/html", 0), ("html", "image/png", 1)]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
nb_code_prompt_show = "Show one solution"
nb_code_prompt_hide = "Hide the solution"

autodoc_default_options = {"members": True}
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# Docstrings say `name`, in Markdown's way, where Sphinx would look for a role.
default_role = "code"

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_last_updated_fmt = ""
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "show_toc_level": 2,
    "navigation_depth": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "back_to_top_button": False,
}
html_sidebars = {"index": []}


def code_blocks(app, what, name, obj, options, lines):  # noqa: ANN001, ANN201, ARG001, PLR0917 - Sphinx's
    """Mark the indented examples of docstrings as code, before napoleon reads the sections."""
    for i in range(len(lines) - 1, 1, -1):
        before = next((line for line in reversed(lines[:i]) if line.strip()), "")
        if lines[i].startswith("    ") and not lines[i - 1].strip() and not before.startswith(" "):
            lines[i:i] = [".. code-block:: python", ""]


def setup(app):  # noqa: ANN001, ANN201 - Sphinx's
    """Register the hook."""
    app.connect("autodoc-process-docstring", code_blocks, priority=400)
