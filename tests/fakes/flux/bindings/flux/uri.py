"""The stand-in for ``flux.uri``: resolves nothing."""

from __future__ import annotations


class FluxURIResolver:
    def resolve(self, uri: str) -> object:
        raise NotImplementedError(f'No plugin for URI scheme {uri.split(":", 1)[0]}')
