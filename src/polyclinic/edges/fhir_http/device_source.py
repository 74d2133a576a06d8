"""Agents as Devices, and the one Endpoint: few, and known without a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from polyclinic.agentkit.manifest import Manifest
from polyclinic.core.errors import NotFound
from polyclinic.edges.fhir_http.query import Search
from polyclinic.edges.fhir_http.report_json import bare_device_json, device_json
from polyclinic.edges.fhir_http.sources import Item, Position
from polyclinic.edges.fhir_http.study_json import endpoint_json
from polyclinic.fhir.json_text import Json

AgentVersions = Callable[[], Sequence[tuple[str, str, str]]]
"""(agent id, version, title) of every agent version that ever ran here."""


class FewResources:
    """Source of resources that fit in memory."""

    def __init__(self, resources: Callable[[], Mapping[str, Json]]) -> None:
        self._resources = resources

    def read(self, resource_id: str) -> Json:
        """See `Source.read`."""
        found = self._resources().get(resource_id)
        if found is None:
            raise NotFound("fhir.no-resource", "There is no such resource; check its address")
        return found

    def versions(self, resource_id: str) -> Sequence[Json]:
        """See `Source.versions`."""
        return (self.read(resource_id),)

    def scan(self, search: Search, after: Position | None) -> Iterator[Item]:
        """See `Source.scan`: by id."""
        for resource_id, resource in sorted(self._resources().items()):
            if after is None or resource_id > str(after[0]):
                yield Item(position=(resource_id,), resource=resource)

    def count(self) -> int | None:
        """See `Source.count`."""
        return len(self._resources())


def agent_devices(manifests: Sequence[Manifest], versions: AgentVersions) -> FewResources:
    """Every agent version that is installed or once ran."""

    def devices() -> dict[str, Json]:
        installed = [device_json(manifest) for manifest in manifests]
        past = [bare_device_json(*one) for one in versions()]
        return {made["id"]: made for made in [*past, *installed]}

    return FewResources(devices)


def endpoints() -> FewResources:
    """The DICOMweb endpoint."""
    made = endpoint_json()
    return FewResources(lambda: {made["id"]: made})
