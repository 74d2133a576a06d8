"""docs/fhir.md names every search parameter and no other."""

from __future__ import annotations

import re
from pathlib import Path

from polyclinic.edges.fhir_http.parameters import PARAMETERS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "fhir.md").read_text("utf-8")


def test_every_search_parameter_is_documented() -> None:
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))
    documented = {
        name: re.findall(r"^\| `([\w-]+)` \| (\w+) \|", text, flags=re.MULTILINE) for name, text in sections.items()
    }
    assert documented == {name: [(p.name, p.kind.value) for p in table.values()] for name, table in PARAMETERS.items()}
