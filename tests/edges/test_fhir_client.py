"""An independent client of FHIR R4 (fhirclient) talks with the server over real HTTP."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fhirclient.client import FHIRClient
from fhirclient.models.bundle import Bundle
from fhirclient.models.humanname import HumanName
from fhirclient.models.imagingstudy import ImagingStudy
from fhirclient.models.patient import Patient

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from fhir_house import MRN, fhir_house, patient


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FHIRClient]:
    with fhir_house(tmp_path_factory.mktemp("fhir-client")) as house:
        token = house.fhir().headers["Authorization"]
        config = uvicorn.Config(house.app, host="127.0.0.1", port=0, log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        made = FHIRClient(settings={"app_id": "test", "api_base": f"http://127.0.0.1:{port}/fhir"})
        made.server.session.headers["Authorization"] = token
        yield made
        server.should_exit = True
        thread.join(10)


def test_it_creates_searches_pages_and_updates(client: FHIRClient) -> None:
    for number in range(5):
        sent = Patient(patient(f"C-{number}", name=[{"family": "Client"}, {"family": "王", "given": ["小东"]}]))
        assert sent.create(client.server)["resourceType"] == "Patient"
    found: Any = Patient.where({"family": "王", "_count": "2"}).perform(client.server)
    assert isinstance(found, Bundle)
    assert [link.relation for link in found.link] == ["self", "next"]
    everybody = list(Patient.where({"family": "王", "_count": "2"}).perform_resources_iter(client.server))
    assert {one.identifier[0].value for one in everybody} == {f"C-{n}" for n in range(5)}
    assert {one.identifier[0].system for one in everybody} == {MRN}
    one = Patient.read(everybody[0].id, client.server)
    one.name = [HumanName({"family": "Changed"})]
    assert one.update(client.server)["meta"]["versionId"] == "2"
    assert ImagingStudy.where({"patient": one.id}).perform_resources(client.server) == []


def test_it_reads_the_capability_statement(client: FHIRClient) -> None:
    assert client.server.capabilityStatement.fhirVersion == "4.0.1"
