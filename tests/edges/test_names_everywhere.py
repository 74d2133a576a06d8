"""A name that comes in by one door is found and read back through every other, in the character sets of the world.

What peers send is encoded here byte by byte (PS3.5 annexes H to K), since pydicom leaves out escape sequences of
ISO 2022 IR 58; what they receive is read by dcmtk and pydicom, which know nothing of how we wrote it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from struct import pack
from urllib.parse import quote

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from edges.other_archives import free_port, wait_for
from polyclinic.app.dicom_node import build_dicom_node
from polyclinic.app.hl7 import Hl7
from polyclinic.app.settings import Settings
from polyclinic.app.wiring import build, build_app
from polyclinic.core.ids import stable_uid
from polyclinic.departments.access.contracts import Role
from polyclinic.departments.reading.contracts import DecisionKind, Delivery, MessageKind
from polyclinic.dicom.part10 import to_part10
from polyclinic.edges.dimse.sender import Peer, send
from polyclinic.edges.hl7v2.acknowledge import acknowledge
from polyclinic.edges.hl7v2.er7 import Message, parse
from polyclinic.edges.hl7v2.listener import MllpListener
from polyclinic.edges.hl7v2.sender import HL7Peer, send_message
from polyclinic.journeys.results import send_result

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))
from fhir_house import MRN, Fhir, FhirHouse, order, patient

ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}
REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
ASCII_NAME = "Unknown^Person"


def in_gb2312(text: str) -> bytes:
    """ISO 2022 IR 58: GB 2312 in G1, designated anew in each component (PS3.5 K.3)."""
    return b"".join(
        part.encode() if part.isascii() else b"\x1b$)A" + part.encode("gb2312") for part in re.split("([=^])", text)
    )


def in_ks_x_1001(text: str) -> bytes:
    """ISO 2022 IR 149: KS X 1001 in G1, designated anew in each component (PS3.5 I.2)."""
    return b"".join(
        part.encode() if part.isascii() else b"\x1b$)C" + part.encode("euc_kr") for part in re.split("([=^])", text)
    )


def in_jis(text: str, *, back: bytes = b"\x1b(J") -> bytes:
    """ISO 2022 IR 13 with IR 87: katakana eight-bit in G1, JIS X 0208 in G0 between two escapes (PS3.5 H.3.2)."""

    def run(part: str) -> bytes:
        if part.isascii():
            return part.encode()
        if "\uff61" <= part[0] <= "\uff9f":
            return part.encode("shift_jis")
        return b"\x1b$B" + part.encode("iso2022_jp").removeprefix(b"\x1b$B").removesuffix(b"\x1b(B") + back

    return b"".join(run(part) for part in re.split("([=^])", text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A name, how DICOM and HL7 peers write it, and parts of it that people search for."""

    name: str
    terms: str
    """Specific Character Set."""
    dicom: Callable[[str], bytes]
    hl7: str
    """MSH-18."""
    message: Callable[[str], bytes]
    families: tuple[str, ...]


def in_codec(codec: str) -> Callable[[str], bytes]:
    return lambda text: text.encode(codec)


CASES = {
    "GB18030": Case(
        name="Li^Yan=李^䶮",  # four bytes in GB 18030, and not in GBK at all
        terms="GB18030",
        dicom=in_codec("gb18030"),
        hl7="GB 18030-2000",
        message=in_codec("gb18030"),
        families=("Li", "李"),
    ),
    "GBK": Case(
        name="Zhang^Wei=張^偉",  # traditional forms, which GB 2312 lacks
        terms="GBK",
        dicom=in_codec("gbk"),
        hl7="GB 18030-2000",
        message=in_codec("gbk"),
        families=("Zhang", "張"),
    ),
    "GB 2312": Case(
        name="Wang^XiaoDong=王^小东",
        terms="\\ISO 2022 IR 58",
        dicom=in_gb2312,
        hl7="GB 18030-2000",
        message=in_codec("gb2312"),
        families=("Wang", "王"),
    ),
    "UTF-8": Case(
        name="Wang^Fang=王^芳=ㄨㄤˊ^ㄈㄤ",
        terms="ISO_IR 192",
        dicom=in_codec("utf-8"),
        hl7="UNICODE UTF-8",
        message=in_codec("utf-8"),
        families=("Wang", "王", "ㄨㄤˊ"),
    ),
    "Japanese": Case(
        name="ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        terms="ISO 2022 IR 13\\ISO 2022 IR 87",
        dicom=in_jis,
        hl7="ISO IR14~ISO IR87",
        message=lambda text: in_jis(text, back=b"\x1b(B"),
        families=("ﾔﾏﾀﾞ", "山田", "やまだ"),
    ),
    "Korean": Case(
        name="Hong^Gildong=洪^吉洞=홍^길동",
        terms="\\ISO 2022 IR 149",
        dicom=in_ks_x_1001,
        hl7="KS X 1001",
        message=in_codec("euc_kr"),
        families=("Hong", "洪", "홍"),
    ),
    "Latin-1": Case(
        name="Müller^Jürgen",
        terms="ISO_IR 100",
        dicom=in_codec("latin-1"),
        hl7="8859/1",
        message=in_codec("latin-1"),
        families=("Müller",),
    ),
}
DOORS = ("C-STORE", "STOW-RS", "HL7", "FHIR")
CASES_AND_DOORS = [(case, door) for case in CASES for door in DOORS]


class Receiver:
    """Takes results as an information system would."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def answer(self, raw: bytes) -> bytes:
        message = parse(raw)
        self.messages.append(message)
        return acknowledge(message.header, None, at=datetime.now(UTC), control_id="1").encode()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Doors:
    """A house with every door open."""

    house: FhirHouse
    fhir: Fhir
    dicom_port: int
    hl7_port: int
    receiver: Receiver
    receiver_port: int

    def send(self, case: str, door: str) -> None:
        """Let the name in by that door; behind HL7 and FHIR there are images already, under another name."""
        one, number = CASES[case], patient_id(case, door)
        if door == "C-STORE":
            peer = Peer(ae_title="POLYCLINIC", host="127.0.0.1", port=self.dicom_port)
            assert all(answer.kept for answer in send([image(case, door, one.terms, one.dicom(one.name))], peer))
            return
        if door == "STOW-RS":
            self.stow(image(case, door, one.terms, one.dicom(one.name)))
            return
        self.stow(image(case, door, "", ASCII_NAME.encode()))
        if door == "HL7":
            groups = "~".join(f"{g}^^^^^L^{code}" for g, code in zip(one.name.split("="), "AIP", strict=False))
            person = f"PID|||{number}^^^SITE-A^MR||{groups}||19600102|M"
            self.tell(one, "ADT^A04", f"A{number}", person)
            ordered = (
                "ORC|NW|PL-{0}^HIS|FI-{0}^RIS||||^^^202603051000^^S",
                "OBR|1|PL-{0}|FI-{0}|24627-2^CT Chest^LN|||||||||||||||RP-{0}|SPS-1|CT1|||CT",
            )
            self.tell(one, "ORM^O01", f"O{number}", person, *(segment.format(number) for segment in ordered))
            return
        names = [
            {"extension": [{"url": REPRESENTATION, "valueCode": code}], "family": family, "given": [given]}
            for code, (family, given) in zip(("ABC", "IDE", "SYL"), groups_of(one.name), strict=False)
        ]
        made = self.fhir.post("/Patient", patient(number, name=names))
        assert made.status_code == 201, made.text
        assert self.fhir.post("/ServiceRequest", order(made.json()["id"], f"PL-{number}")).status_code == 201

    def stow(self, part10: bytes) -> None:
        headers = self.fhir.headers | {"Content-Type": "application/dicom"}
        answer = self.fhir.client.post("/dicom-web/studies", content=part10, headers=headers)
        assert answer.status_code == 200, answer.text

    def tell(self, case: Case, kind: str, control_id: str, *segments: str) -> None:
        header = f"MSH|^~\\&|HIS|H|||20260304||{kind}|{control_id}|P|2.5.1||||||{case.hl7}"
        message = b"\r".join((header.encode(), *(_piecewise(segment, case.message) for segment in segments)))
        send_message(message, HL7Peer(host="127.0.0.1", port=self.hl7_port), control_id=control_id)

    def web(self, path: str) -> object:
        answer = self.fhir.client.get(path, headers=self.fhir.headers)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        return answer.json()

    def findscu(self, folder: Path, root: str, case: Case, number: str, searched: str) -> list[Dataset]:
        """What dcmtk is answered that asks, in the case's character set, for a name."""
        sequence = pack("<HH2sHL", 0x0040, 0x0100, b"SQ", 0, 0) if root == "-W" else b""
        query = b"".join(
            (
                element(0x0008, 0x0005, b"CS", case.terms.encode()),
                b"" if root == "-W" else element(0x0008, 0x0052, b"CS", b"STUDY"),
                element(0x0010, 0x0010, b"PN", case.dicom(searched)),
                element(0x0010, 0x0020, b"LO", number.encode()),
                element(0x0020, 0x000D, b"UI", b""),
                sequence,
            )
        )
        folder = folder / f"found-{time.monotonic_ns()}"
        folder.mkdir()
        (folder / "query").write_bytes(query)
        command = ["findscu", root, "-X", "-od", str(folder), "127.0.0.1", str(self.dicom_port), str(folder / "query")]
        subprocess.run(command, capture_output=True, timeout=60, env=ENVIRONMENT, check=True)
        return [dcmread(path, force=True) for path in sorted(folder.glob("rsp*"))]


def _piecewise(segment: str, encode: Callable[[str], bytes]) -> bytes:
    """Each component for itself, as the encoders of this module want it."""
    return b"".join(part.encode() if part.isascii() else encode(part) for part in re.split(r"([|~^])", segment))


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    even = value + (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return pack("<HH2sH", group, number, vr, len(even)) + even


def image(case: str, door: str, terms: str, name: bytes) -> bytes:
    """A Part 10 file whose Patient's Name has exactly these bytes."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, stable_uid("named", "instance", case, door)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid(case, door), stable_uid("named", "s", case, door)
    dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = patient_id(case, door), "19600102", "M"
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber, dataset.StudyID = "20260102", "1015", "", "1"
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "CT", 1, 1
    if terms:
        dataset.SpecificCharacterSet = terms.split("\\")
    name += b" " * (len(name) % 2)
    room = b"#" * len(name)
    dataset.PatientName = room.decode()
    return to_part10(dataset).replace(room, name)


def patient_id(case: str, door: str) -> str:
    return f"P-{list(CASES).index(case)}-{door}"


def study_uid(case: str, door: str) -> str:
    return stable_uid("named", "study", case, door)


def groups_of(name: str) -> list[list[str]]:
    return [group.split("^") for group in name.split("=")]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """A house into which every name has come by every door."""
    settings = Settings(
        data=tmp_path_factory.mktemp("named") / "data",
        dicom_port=0,
        hl7_port=free_port(),
        patient_id_issuer="SITE-A",
        log_level="WARNING",
    )
    services, receiver = build(settings), Receiver()
    with ExitStack() as stack:
        stack.callback(services.close)
        node = build_dicom_node(
            settings, services.archive, services.record, services.engine, recorder=services.audit.recorder
        )
        node.start()
        stack.callback(node.stop)
        hl7 = Hl7(settings, services.engine, services.rooms, services.archive, services.audit.recorder)
        hl7.start()
        stack.callback(hl7.stop)
        listener = MllpListener(receiver, host="127.0.0.1", port=0)  # type: ignore[arg-type]
        listener.start()
        stack.callback(listener.stop)
        house = FhirHouse(services=services, app=build_app(services, ready=lambda: True))
        person = services.access.add_person(
            name="anybody", display="Anybody", roles={Role.DEVICE, Role.RADIOLOGIST}, password="correct horse battery"
        )
        headers = {"Authorization": f"Bearer {services.access.new_bearer(person.person_id, 'test')}"}
        made = Doors(
            house=house,
            fhir=Fhir(client=house.fhir().client, headers=headers),
            dicom_port=node.port,
            hl7_port=int(settings.hl7_port or 0),
            receiver=receiver,
            receiver_port=listener.port,
        )
        for case, door in CASES_AND_DOORS:
            made.send(case, door)
        wait_for(lambda: not services.record.pending_changes(), limit_s=60)
        yield made


@pytest.fixture(params=CASES_AND_DOORS, ids=lambda pair: f"{pair[0]} by {pair[1]}")
def there(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A character set, and the door by which the name came in."""
    pair: tuple[str, str] = request.param
    return pair


def test_dicomweb_and_the_page(doors: Doors, there: tuple[str, str]) -> None:
    case, uid = CASES[there[0]], study_uid(*there)
    for searched in case.families:
        found = doors.web(f"/dicom-web/studies?PatientName={quote(searched)}*&PatientID={patient_id(*there)}")
        (study,) = found  # type: ignore[misc]
        assert list(study["00100010"]["Value"][0].values()) == case.name.split("=")
        page = doors.web(f"/api/v1/worklist?search={quote(searched)}")
        rows = {row["study_instance_uid"]: row["patient_name"] for row in page["rows"]}  # type: ignore[index]
        assert rows[uid] == case.name
    (instance,) = doors.web(f"/dicom-web/studies/{uid}/metadata")  # type: ignore[misc]
    assert list(instance["00100010"]["Value"][0].values()) == case.name.split("=")


def test_fhir(doors: Doors, there: tuple[str, str]) -> None:
    case, number = CASES[there[0]], patient_id(*there)
    for family, given in groups_of(case.name):
        (found,) = doors.fhir.found(f"/Patient?name={quote(family)}&identifier={quote(number)}")
        assert [[name["family"], *name["given"]] for name in found["name"]] == groups_of(case.name)
        assert found["identifier"][0]["system"] == MRN, "the site's own issuer, which the images leave out"
        by_family = f"/ImagingStudy?patient.family={quote(family)}&patient.given={quote(given)}"
        (study,) = doors.fhir.found(f"{by_family}&patient.identifier={quote(number)}")
        assert study["identifier"][0]["value"] == f"urn:oid:{study_uid(*there)}"
        assert study["subject"]["reference"] == f"Patient/{found['id']}"


@pytest.mark.skipif(shutil.which("findscu") is None, reason="dcmtk is not installed")
def test_dcmtk_in_its_own_character_set(doors: Doors, there: tuple[str, str], tmp_path: Path) -> None:
    case, number = CASES[there[0]], patient_id(*there)
    for searched in {case.families[-1], case.families[min(1, len(case.families) - 1)]}:
        (study,) = doors.findscu(tmp_path, "-S", case, number, f"{searched}*")
        assert study.StudyInstanceUID == study_uid(*there)
        # Bytes, since pydicom leaves the escape sequences of ISO 2022 IR 58 in the text
        assert study.get_item("PatientName").value.rstrip() == case.dicom(case.name)
        assert study.get("SpecificCharacterSet", "") == (case.terms.split("\\") if "\\" in case.terms else case.terms)
    if there[1] in ("HL7", "FHIR"):  # the worklist is made of orders, which images bring none of
        (step,) = doors.findscu(tmp_path, "-W", case, number, f"{case.families[-1]}*")
        assert step.get_item("PatientName").value.rstrip() == case.dicom(case.name)


def test_results_by_hl7(doors: Doors, there: tuple[str, str]) -> None:
    case, uid = CASES[there[0]], study_uid(*there)
    for finding in doors.house.read_study(uid, count=1):
        doors.house.decide(uid, finding, DecisionKind.ACCEPT)
    doors.house.sign(uid)
    destination = f"hl7:127.0.0.1:{doors.receiver_port}"
    kind = MessageKind.RESULT
    item = Delivery(
        key=uid, study_instance_uid=uid, revision=1, destination=destination, kind=kind, sop_instance_uid=""
    )
    send_result(doors.house.services.rooms, item)
    person = doors.receiver.messages[-1].first("PID")
    assert person is not None
    assert person.text_of(3) == patient_id(*there)
    assert [[name.text(1), name.text(2)] for name in person.repetitions(5)] == groups_of(case.name)
