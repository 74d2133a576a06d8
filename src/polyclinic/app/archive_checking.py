"""A scrub that remembers where it was stopped, in a file of the data folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from sqlalchemy import Engine

from polyclinic.app.settings import Settings
from polyclinic.app.workroom import segments_folder
from polyclinic.departments.archive.scrub import Fault, Problem, Scrub, Scrubbed

_REMEMBERED = 10_000


class Checking:
    """One pass of `polyclinic.departments.archive.scrub.Scrub`, in as many runs as it takes.

    Parameters
    ----------
    anew
        Forget where the last run was stopped.
    """

    def __init__(
        self, settings: Settings, engine: Engine, *, sample: float, bytes_per_s: float | None, anew: bool
    ) -> None:
        self._path = settings.data / "verify.json"
        self._scrub = Scrub(
            engine,
            segments_folder(settings),
            sample=sample,
            bytes_per_s=bytes_per_s,
            seed=int.from_bytes(os.urandom(4), "big"),
        )
        self._after = "" if anew else self._recall()

    def total_bytes(self) -> int:
        """What is left to be read."""
        return self._scrub.total_bytes(after=self._after)

    def run(self, told: Callable[[int], None]) -> Scrubbed:
        """Go on to the end; what earlier runs of the pass found is in the result."""
        for name in self._scrub.run(after=self._after, told=told):
            self._remember(name)
        self._path.unlink(missing_ok=True)
        return self._scrub.result

    def _recall(self) -> str:
        try:
            noted: dict[str, Any] = json.loads(self._path.read_bytes())
            problems = [Problem(**(one | {"fault": Fault(one["fault"])})) for one in noted["problems"]]
            self._scrub.result = Scrubbed(int(noted["instances"]), int(noted["size_bytes"]), problems)
            return str(noted["after"])
        except FileNotFoundError:
            return ""
        except (ValueError, KeyError, TypeError):
            return ""  # half a file, or one of another version: the pass begins anew

    def _remember(self, after: str) -> None:
        result = self._scrub.result
        noted = {
            "after": after,
            "instances": result.instances,
            "size_bytes": result.size_bytes,
            "problems": [asdict(problem) for problem in result.problems[:_REMEMBERED]],
        }
        beside = self._path.with_suffix(".part")
        beside.write_text(json.dumps(noted), "utf-8")
        beside.replace(self._path)
