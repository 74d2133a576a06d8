"""UPS-RS as a client sees it (PS3.18 11), the gate and the channel of events included."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import uvicorn
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from polyclinic.app.settings import Settings
from polyclinic.app.wiring import Services, build, build_app
from polyclinic.departments.access.audit_store import Question

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from test_workitems import DONE, STOPPED, new, value  # the same datasets

JSON = {"Content-Type": "application/dicom+json"}
LOCK, OTHER = "2.25.111", "2.25.222"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    built = build(Settings(data=tmp_path_factory.mktemp("ups") / "data"))
    yield built
    built.close()


@pytest.fixture(scope="module")
def headers(services: Services) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(services, 'device')}"}


def token(services: Services, role: str) -> str:
    person = services.access.add_person(name=role, display=role, roles={role}, password="a long password")
    return services.access.new_bearer(person.person_id, role)


@pytest.fixture(scope="module")
def client(services: Services, headers: dict[str, str]) -> TestClient:
    app = build_app(services, ready=lambda: True)
    return TestClient(app, base_url="http://127.0.0.1", headers=headers)


numbers = itertools.count(1)


@pytest.fixture
def uid(client: TestClient) -> str:
    """A new workitem."""
    made = f"1.2.3.{next(numbers)}"
    answer = post(client, f"/dicom-web/workitems?workitem={made}", new())
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"http://127.0.0.1/dicom-web/workitems/{made}"
    assert "created with modifications" in answer.headers["warning"]
    return made


def post(client: TestClient, address: str, dataset: Any) -> Any:
    return client.post(address, content=orjson.dumps(dataset), headers=JSON)


def put_state(client: TestClient, uid: str, state: str, transaction: str = LOCK) -> Any:
    dataset = {"00741000": value("CS", state)} | ({"00081195": value("UI", transaction)} if transaction else {})
    return client.put(f"/dicom-web/workitems/{uid}/state", content=orjson.dumps([dataset]), headers=JSON)


def state_of(client: TestClient, uid: str) -> str:
    (dataset,) = client.get(f"/dicom-web/workitems/{uid}").json()
    assert "00081195" not in dataset
    return str(dataset["00741000"]["Value"][0])


def test_an_ai_claims_and_finishes_work(client: TestClient, uid: str) -> None:
    found = client.get("/dicom-web/workitems", params={"ProcedureStepState": "SCHEDULED", "PatientID": "P1"}).json()
    assert uid in [dataset["00080018"]["Value"][0] for dataset in found]
    assert put_state(client, uid, "IN PROGRESS").status_code == 200
    assert post(client, f"/dicom-web/workitems/{uid}?transaction-uid={LOCK}", DONE).status_code == 200
    assert put_state(client, uid, "COMPLETED").status_code == 200
    again = put_state(client, uid, "COMPLETED")
    assert again.status_code == 200
    assert "already in the requested state of COMPLETED" in again.headers["warning"]
    assert state_of(client, uid) == "COMPLETED"


@pytest.mark.parametrize(
    ("state", "transaction", "warning"),
    [
        ("COMPLETED", "", "The Transaction UID is missing."),
        ("COMPLETED", OTHER, "The Transaction UID is incorrect."),
        ("CANCELED", OTHER, "The Transaction UID is incorrect."),
        ("IN PROGRESS", OTHER, "inconsistent with the state"),
        ("COMPLETED", LOCK, "inconsistent with the state"),
    ],
)
def test_conflicts_are_409_with_their_warning(
    client: TestClient, uid: str, state: str, transaction: str, warning: str
) -> None:
    put_state(client, uid, "IN PROGRESS")
    before = client.get(f"/dicom-web/workitems/{uid}").json()
    answer = put_state(client, uid, state, transaction)
    assert answer.status_code == 409
    assert warning in answer.headers["warning"]
    assert client.get(f"/dicom-web/workitems/{uid}").json() == before


@pytest.mark.parametrize("transaction", ["", OTHER])
def test_an_update_needs_the_lock(client: TestClient, uid: str, transaction: str) -> None:
    put_state(client, uid, "IN PROGRESS")
    address = f"/dicom-web/workitems/{uid}" + (f"?transaction={transaction}" if transaction else "")
    assert post(client, address, STOPPED).status_code == 409
    both = STOPPED | {"00081195": value("UI", LOCK)}
    assert post(client, f"/dicom-web/workitems/{uid}?transaction={OTHER}", both).status_code == 400
    assert post(client, f"/dicom-web/workitems/{uid}", both).status_code == 200
    assert put_state(client, uid, "CANCELED").status_code == 200
    (dataset,) = client.get(f"/dicom-web/workitems/{uid}").json()
    assert dataset["00741002"]["Value"][0]["00404052"]["Value"]


def test_cancelling_what_nobody_claimed(client: TestClient, uid: str) -> None:
    reason = {"00741238": value("LT", "no longer wanted")}
    assert post(client, f"/dicom-web/workitems/{uid}/cancelrequest", reason).status_code == 202
    assert state_of(client, uid) == "CANCELED"
    again = client.post(f"/dicom-web/workitems/{uid}/cancelrequest")
    assert again.status_code == 202
    assert "already" in again.headers["warning"]


@pytest.mark.parametrize(
    ("method", "address", "body", "status"),
    [
        ("POST", "/dicom-web/workitems", b"{", 400),
        ("POST", "/dicom-web/workitems", b"[]", 400),
        ("POST", "/dicom-web/workitems", b"{}", 400),
        ("POST", "/dicom-web/workitems?workitem=../x", orjson.dumps(new()), 400),
        ("POST", "/dicom-web/workitems?workitem=1.2.840.10008.5.1.4.34.5", orjson.dumps(new()), 400),
        ("POST", "/dicom-web/workitems", b"x" * 1_000_001, 413),
        ("GET", "/dicom-web/workitems/9.9.9", b"", 404),
        ("POST", "/dicom-web/workitems/9.9.9/cancelrequest", b"", 404),
        ("GET", "/dicom-web/workitems/%00", b"", 404),
        ("POST", "/dicom-web/workitems/%00/cancelrequest", b"", 404),
        ("POST", "/dicom-web/workitems/%00/subscribers/ME", b"", 404),
        ("POST", "/dicom-web/workitems/%00/subscribers/ME/suspend", b"", 404),
        ("GET", "/dicom-web/workitems?PatientID=%00", b"", 400),
        ("POST", "/dicom-web/workitems", orjson.dumps(new(**{"00100020": value("LO", "a\0")})), 400),
        ("GET", "/dicom-web/workitems?Nonsense=1", b"", 400),
        ("GET", "/dicom-web/workitems?ScheduledWorkitemCodeSequence.Nonsense=1", b"", 400),
        ("GET", "/dicom-web/workitems?limit=-1", b"", 422),
        ("POST", "/dicom-web/workitems/9.9.9/subscribers/ME", b"", 404),
        ("POST", "/dicom-web/workitems/1.2.840.10008.5.1.4.34.5/subscribers/A%5CB", b"", 400),
        ("POST", "/dicom-web/workitems/1.2.840.10008.5.1.4.34.5/subscribers/ABCDEFGHIJKLMNOPQ", b"", 400),
        ("POST", "/dicom-web/workitems/1.2.840.10008.5.1.4.34.5.1/subscribers/ME", b"", 400),
        ("POST", "/dicom-web/workitems/1.2.840.10008.5.1.4.34.5/subscribers/NOBODY/suspend", b"", 404),
    ],
)
def test_what_is_wrong_is_said(client: TestClient, method: str, address: str, body: bytes, status: int) -> None:
    answer = client.request(method, address, content=body, headers=JSON)
    assert answer.status_code == status, answer.text


def test_other_media_types_and_a_second_creation(client: TestClient, uid: str) -> None:
    xml = {"Content-Type": "application/dicom+xml"}
    assert client.post("/dicom-web/workitems", content=b"<x/>", headers=xml).status_code == 415
    assert post(client, f"/dicom-web/workitems?{uid}", new()).status_code == 409


def test_everybody_on_the_staff_may_look_and_few_may_work(services: Services, client: TestClient, uid: str) -> None:
    reader = {"Authorization": f"Bearer {token(services, 'radiologist')}"}
    assert client.get(f"/dicom-web/workitems/{uid}", headers=reader).status_code == 200
    for method, address in (
        ("POST", "/dicom-web/workitems"),
        ("POST", f"/dicom-web/workitems/{uid}"),
        ("PUT", f"/dicom-web/workitems/{uid}/state"),
        ("POST", f"/dicom-web/workitems/{uid}/cancelrequest"),
    ):
        assert client.request(method, address, headers=reader).status_code == 403
    nobody = {"Authorization": "Bearer nothing"}
    assert client.get("/dicom-web/workitems", headers=nobody).status_code == 401
    for refused in (nobody, {"Authorization": f"Bearer {token(services, 'agent')}"}):
        with (
            pytest.raises(WebSocketDisconnect) as told,
            client.websocket_connect("/dicom-web/subscribers/ME", headers=refused),
        ):
            pass
        assert told.value.code == 1008


def test_a_page_of_another_origin_gets_no_channel(client: TestClient) -> None:
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/dicom-web/subscribers/ME", headers={"Origin": "http://elsewhere.example"}),
    ):
        pass


@pytest.fixture(scope="module")
def address(services: Services) -> Iterator[str]:
    """The service behind a real server."""
    server = uvicorn.Server(uvicorn.Config(build_app(services, ready=lambda: True), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def test_events_come_over_a_real_websocket(services: Services, headers: dict[str, str], address: str) -> None:
    with httpx.Client(base_url=f"http://{address}/dicom-web", headers=headers | JSON) as client:
        made = f"1.2.3.{next(numbers)}"
        subscribed = client.post("/workitems/1.2.840.10008.5.1.4.34.5/subscribers/WATCHER?deletionlock=true")
        assert subscribed.status_code == 201
        channel = subscribed.headers["content-location"]
        assert channel == f"ws://{address}/dicom-web/subscribers/WATCHER"
        with connect(channel, additional_headers=headers) as socket:

            def told() -> tuple[str, int, Any, int]:
                report = orjson.loads(socket.recv(timeout=5))
                state = report.get("00741000", {}).get("Value", [""])[0]
                ids = (report["00001000"]["Value"][0], report["00001002"]["Value"][0])
                return (*ids, state, report["00000110"]["Value"][0])

            assert client.post(f"/workitems?workitem={made}", content=orjson.dumps(new())).status_code == 201
            assert told() == (made, 1, "SCHEDULED", 1)
            claim = {"00741000": value("CS", "IN PROGRESS"), "00081195": value("UI", LOCK)}
            client.put(f"/workitems/{made}/state", content=orjson.dumps(claim))
            assert told() == (made, 1, "IN PROGRESS", 2)
            client.post(f"/workitems/{made}/cancelrequest", content=b"{}")
            assert told() == (made, 2, "", 3)
        # What happens while nobody listens waits.
        client.post(f"/workitems/{made}?transaction={LOCK}", content=orjson.dumps(STOPPED))
        with connect(channel, additional_headers=headers) as socket:
            report = told()
            while report[1] == 2:  # its channel closed before it was marked as delivered: once more is allowed
                report = told()
            assert report[:2] == (made, 3)
        assert client.delete("/workitems/1.2.840.10008.5.1.4.34.5/subscribers/WATCHER").status_code == 200
        with pytest.raises(InvalidStatus) as refused:
            connect(channel)
        assert refused.value.response.status_code == 403


def test_work_is_in_the_ledger_with_its_workitem(services: Services, client: TestClient, uid: str) -> None:
    put_state(client, uid, "IN PROGRESS")
    found = services.audit.ledger.find(Question(action="workitem.work", limit=1))
    assert [kept.entry.detail for kept in found] == [{"resource": f"{uid}/state"}]
