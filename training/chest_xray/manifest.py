"""The shipped agent's manifest, for scripts."""

from __future__ import annotations

from importlib import resources

from polyclinic.agentkit.manifest import Manifest, read_manifest


def manifest() -> Manifest:
    """Of ``polyclinic_agents.chest_xray``."""
    return read_manifest(resources.files("polyclinic_agents.chest_xray"))
