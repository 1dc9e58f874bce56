"""The one place that says which version of the package this is."""

VERSION = '1.0.0.dev0'
