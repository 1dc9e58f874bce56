"""What the stand-in knows about machines."""

from __future__ import annotations

from typing import Any, Optional

_RESOURCES = {'local.localhost': {'cores_per_node': 8}, 'site.machine': {'cores_per_node': 0}}


def get_resource_config(resource: str) -> Optional[dict[str, Any]]:
    return _RESOURCES.get(resource)
