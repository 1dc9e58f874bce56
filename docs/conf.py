"""The configuration of Sphinx."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / 'src'))

from psij.version import VERSION

project = 'psij'
author = 'The psij-python authors'
copyright = f'2026, {author}'
release = version = VERSION
extensions = ['sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
exclude_patterns = ['_build', 'examples']
napoleon_numpy_docstring = True
napoleon_google_docstring = False
autodoc_typehints = 'none'
autodoc_member_order = 'bysource'
html_theme = 'alabaster'
html_theme_options = {
    'description': 'One Python API for every HPC scheduler',
    'page_width': '1240px',
    'body_max_width': '960px',
    'sidebar_width': '240px',
    'font_size': '16px',
    'code_font_size': '13px',
}
toc_object_entries = False  # the sidebar of the API reference would be longer than the page
html_static_path = ['_static']
html_css_files = ['psij.css']
nitpicky = False
autodoc_mock_imports = ['flux', 'radical']


def correct_links(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Correct the links from source code to its documentation.

    viewcode takes all of a module to be documented with the same prefix, but only some of it is as part of ``psij``.
    """
    if not pagename.startswith('_modules/psij/'):
        return
    documented = app.env.get_domain('py').objects
    module = pagename[len('_modules/') :].replace('/', '.')

    def correct(link: re.Match[str]) -> str:
        return link[0] if f'psij.{link[1]}' in documented else f'#{module}.{link[1]}"'

    context['body'] = re.sub(r'#psij\.([\w.]+)"', correct, context['body'])


def setup(app: Any) -> None:
    """Connect what is above with Sphinx."""
    app.connect('html-page-context', correct_links)
