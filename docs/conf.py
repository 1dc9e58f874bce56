"""The configuration of Sphinx."""

import sys
from pathlib import Path

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
