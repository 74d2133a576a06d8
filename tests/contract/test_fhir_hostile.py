"""Whatever is sent to FHIR is answered with a status and a reason, never with a server error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from fhir_house import Fhir, fhir_house, lab, order, patient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyclinic.edges.fhir_http.parameters import PARAMETERS
from polyclinic.fhir.structure import RESOURCES

CALM = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def fhir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fhir]:
    with fhir_house(tmp_path_factory.mktemp("fhir")) as house:
        client = house.fhir()
        assert client.post("/Patient", patient("H-1")).status_code == 201
        yield client


def answered(answer: Any) -> None:
    assert answer.status_code < 500, answer.text
    assert answer.json()["resourceType"] in ("Bundle", "OperationOutcome", *RESOURCES)


NAMES = st.sampled_from(sorted({name for table in PARAMETERS.values() for name in table}))
VALUES = st.text(max_size=20) | st.sampled_from(
    ["ge2026", "a|b", "|", "\\", ",", "%00", "'", '"', "*", "%", "_", "Patient/1", "true"]
)


@CALM
@given(
    st.sampled_from(RESOURCES),
    st.lists(
        st.tuples(NAMES, st.sampled_from(["", ":not", ":exact", ":contains", ":missing", ".name"]), VALUES), max_size=3
    ),
)
def test_any_search_is_answered(fhir: Fhir, kind: str, asked: list[tuple[str, str, str]]) -> None:
    pairs = [(name + modifier, value) for name, modifier, value in asked]
    answered(fhir.client.get(f"/fhir/{kind}", params=pairs, headers=fhir.headers))


@CALM
@given(st.binary(max_size=80))
def test_any_query_string_is_answered(fhir: Fhir, raw: bytes) -> None:
    query = "".join(f"%{byte:02X}" if byte < 33 or byte > 126 or byte == 35 else chr(byte) for byte in raw)
    answered(fhir.client.get("/fhir/Patient?" + query, headers=fhir.headers))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answered(fhir.client.post("/fhir/Patient/_search", content=raw, headers=fhir.headers | form))


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10)
)
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2)
)


def mutated(resource: dict[str, Any], draw: st.DrawFn) -> dict[str, Any]:
    """The resource with junk somewhere inside."""
    copy: dict[str, Any] = json.loads(json.dumps(resource))
    place: Any = copy
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys)) if keys else None
        if key is None:
            return copy
        if isinstance(place[key], (dict, list)) and draw(st.booleans()):
            place = place[key]
            continue
        place[key] = draw(JUNK)
        return copy


@st.composite
def broken(draw: st.DrawFn) -> dict[str, Any]:
    bundle = {
        "resourceType": "Bundle",
        "type": draw(st.sampled_from(["transaction", "batch"])),
        "entry": [
            {
                "fullUrl": "urn:uuid:1",
                "request": {"method": "POST", "url": "Device"},
                "resource": {"resourceType": "Device"},
            }
        ],
    }
    samples = [
        patient("H-2", link=[{"other": {"reference": "Patient/x"}, "type": "replaces"}]),
        order("x"),
        lab("x"),
        bundle,
    ]
    return mutated(draw(st.sampled_from(samples)), draw)


@CALM
@given(broken())
def test_any_resource_is_answered(fhir: Fhir, resource: dict[str, Any]) -> None:
    text = json.dumps(resource)
    headers = fhir.headers | {"Content-Type": "application/fhir+json"}
    for path in ("", f"/{quote(str(resource.get('resourceType')), safe='')}", "/Device"):
        answered(fhir.client.post(f"/fhir{path}", content=text, headers=headers))


@pytest.mark.parametrize(
    "path",
    [
        "/Patient/..%2f..%2fetc",
        "/Patient/%00",
        "/Patient/" + "a" * 500,
        "/%F0%9F%92%A9",
        "/Patient/1/_history/%27",
        "/Observation/' OR 1=1",
    ],
)
def test_hostile_addresses_are_nothing(fhir: Fhir, path: str) -> None:
    answer = fhir.get(path)
    assert (answer.status_code, answer.json()["resourceType"]) == (404, "OperationOutcome")


def test_errors_repeat_nothing_of_the_patient(fhir: Fhir) -> None:
    secret = "Geheim" * 3
    for answer in (
        fhir.post("/Patient", patient(secret, name=[{"family": f"{secret}^"}])),
        fhir.post("/Patient", patient(secret, birthDate=secret, gender=secret)),
        fhir.post("/Observation", lab(secret)),
        fhir.get(f"/Patient?birthdate={secret}"),
        fhir.post(
            "",
            {
                "resourceType": "Bundle",
                "type": "transaction",
                "entry": [{"request": {"method": secret, "url": secret}}],
            },
        ),
    ):
        assert 400 <= answer.status_code < 500
        assert secret not in answer.text
