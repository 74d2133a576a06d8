"""Study, series and agent of one run, which every finding of it names."""

from __future__ import annotations

from dataclasses import dataclass

from polyclinic.core.findings import Source
from polyclinic.core.ids import stable_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What every finding of one run carries."""

    study_instance_uid: str
    series_instance_uid: str
    source: Source

    def id(self, kind: str, *parts: object) -> str:
        return stable_id(kind, self.series_instance_uid, self.source.id, self.source.version, *parts)
