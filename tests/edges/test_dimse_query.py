"""C-FIND against dcmtk's findscu, and against a peer that does what findscu would not."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association as Scu
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from structlog.testing import capture_logs

from polyclinic.core.ids import stable_uid
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.dicom.text import decode, encodings_of
from polyclinic.edges.dimse import commands, negotiation, wire
from polyclinic.edges.dimse.association import Policy
from polyclinic.edges.dimse.identifier import BadIdentifier, encode_identifier, read_identifier
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.syntaxes import PATIENT_ROOT_FIND, STUDY_ROOT_FIND

Make = Callable[..., bytes]
needs_dcmtk = pytest.mark.skipif(shutil.which("findscu") is None, reason="dcmtk is not installed")
ENVIRONMENT = os.environ | {"TCP_NODELAY": "1"}
STUDIES = [
    {"study": "1"},  # Wang^XiaoDong=王^小东, P-1, 20260102
    {"study": "2", "StudyDate": "20260315", "StudyTime": "083000", "PatientName": "Müller^Jürgen", "PatientID": "P-2"},
    {"study": "3", "StudyDate": "20251231", "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう", "PatientID": "p-2"},
    {"study": "4", "StudyDate": "20260316", "PatientName": "Hong^Gildong=洪^吉洞=홍^길동", "PatientID": "P-4"},
    {"study": "5", "StudyDate": "20260401", "Modality": "DX", "StudyDescription": "100% [x]", "PatientID": "P-1"},
]

LEVEL = (0x00080052, b"CS", b"STUDY")
UID = (0x0020000D, b"UI", b"")


@pytest.fixture
def archive(tmp_path: Path, open_archive: Callable[..., SqlArchive], part10: Make) -> SqlArchive:
    archive = open_archive(tmp_path / "archive")
    for attributes in STUDIES:
        archive.store(part10(**attributes), source="TEST")
    for number in (2, 3):
        archive.store(part10(number, study="1"), source="TEST")
    archive.store(part10(study="1", series="2", Modality="SR"), source="TEST")
    return archive


def served(archive: SqlArchive, **policy: object) -> Iterator[DimseNode]:
    node = DimseNode(archive, port=0, policy=Policy(ae_title="POLYCLINIC", **policy))
    node.start()
    yield node
    node.stop()


@pytest.fixture
def node(archive: SqlArchive) -> Iterator[DimseNode]:
    yield from served(archive)


class Found(list[Dataset]):
    """Matches, and the last status that findscu reports."""

    said: str = ""


@pytest.fixture
def findscu(node: DimseNode, tmp_path: Path) -> Callable[..., Found]:
    def find(*keys: str, root: str = "-S", options: tuple[str, ...] = (), files: tuple[Path, ...] = ()) -> Found:
        folder = tmp_path / f"found-{time.monotonic_ns()}"
        folder.mkdir()
        arguments = [part for key in keys for part in ("-k", key)]
        command = ["findscu", "-v", root, "-X", "-od", str(folder), *options, *arguments, "127.0.0.1", str(node.port)]
        done = subprocess.run([*command, *files], capture_output=True, timeout=30, env=ENVIRONMENT, check=False)
        found = Found(dcmread(path, force=True) for path in sorted(folder.iterdir()))
        found.said = (done.stdout + done.stderr).decode("utf-8", "replace")
        return found

    return find


def encoded(elements: list[tuple[int, bytes, bytes]]) -> bytes:
    """A dataset in explicit VR little endian."""
    out = b""
    for tag, vr, value in elements:
        even = value + b" " * (len(value) % 2)
        out += pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(even)) + even
    return out


def studies(found: list[Dataset]) -> list[str]:
    by_uid = {stable_uid("study", one["study"]): one["study"] for one in STUDIES}
    return sorted(by_uid[dataset.StudyInstanceUID] for dataset in found)


@needs_dcmtk
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("StudyInstanceUID", "12345"),
        ("StudyInstanceUID=" + stable_uid("study", "2"), "2"),
        ("StudyInstanceUID=" + "\\".join(stable_uid("study", n) for n in "135"), "135"),
        ("StudyInstanceUID=1.2.3.4", ""),
        ("PatientID=P-2", "2"),
        ("PatientID=P-?", "1245"),
        ("PatientID=*2", "23"),
        ("PatientID=*", "12345"),
        ("PatientID=p*", "3"),
        ("StudyDate=20260102", "1"),
        ("StudyDate=20260102-20260315", "12"),
        ("StudyDate=20260316-", "45"),
        ("StudyDate=-20260102", "13"),
        ("StudyTime=0830", "2"),
        ("StudyTime=0830-1011", "12345"),
        ("StudyTime=0831-1010", ""),
        ("AccessionNumber=ACC-3", "3"),
        ("StudyDescription=100% [x]", "5"),
        ("StudyDescription=100%*[x?", "5"),
        ("StudyDescription=100_*", ""),
        ("ModalitiesInStudy=SR", "1"),
        ("ModalitiesInStudy=DX\\SR", "15"),
        ("ModalitiesInStudy=C*", "1234"),
        ("ModalitiesInStudy=R", ""),
        ("PatientName=WANG*", "15"),
        ("PatientName=wang^xiaodong", "15"),
        ("PatientName=muller*", "2"),
        ("PatientName=hong^*", "4"),
        ("PatientName=*gil*", "4"),
        ("PatientName=nobody*", ""),
    ],
)
def test_study_root_keys(findscu: Callable[..., Found], key: str, expected: str) -> None:
    found = findscu("QueryRetrieveLevel=STUDY", "StudyInstanceUID", key)
    assert studies(found) == list(expected), found.said


@needs_dcmtk
def test_a_study_tells_its_counts_and_where_it_is(findscu: Callable[..., Found]) -> None:
    keys = ("ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "InstanceAvailability")
    (found,) = findscu("QueryRetrieveLevel=STUDY", "StudyID=1", "PatientName", "RetrieveAETitle", *keys)
    assert found.ModalitiesInStudy == ["CT", "SR"]
    assert (found.NumberOfStudyRelatedSeries, found.NumberOfStudyRelatedInstances) == (2, 4)
    assert (found.RetrieveAETitle, found.InstanceAvailability) == ("POLYCLINIC", "ONLINE")
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert found.PatientName == "Wang^XiaoDong=王^小东"


@needs_dcmtk
def test_series_and_image_levels(findscu: Callable[..., Found]) -> None:
    study = "StudyInstanceUID=" + stable_uid("study", "1")
    series = findscu(
        "QueryRetrieveLevel=SERIES", study, "SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances"
    )
    assert sorted((one.Modality, one.NumberOfSeriesRelatedInstances) for one in series) == [("CT", 3), ("SR", 1)]
    (report,) = findscu("QueryRetrieveLevel=SERIES", study, "SeriesInstanceUID", "Modality=SR", "SeriesNumber=2")
    assert report.SeriesInstanceUID == stable_uid("series", "1", "2")
    first = "SeriesInstanceUID=" + stable_uid("series", "1", "1")
    keys = ("SOPInstanceUID", "SOPClassUID", "InstanceNumber", "Rows", "NumberOfFrames")
    images = findscu("QueryRetrieveLevel=IMAGE", study, first, *keys)
    assert sorted(one.InstanceNumber for one in images) == [1, 2, 3]
    assert {(one.Rows, one.NumberOfFrames, one.SOPClassUID) for one in images} == {(8, 1, "1.2.840.10008.5.1.4.1.1.2")}
    (second,) = findscu("QueryRetrieveLevel=IMAGE", study, first, "SOPInstanceUID", "InstanceNumber=2")
    assert second.SOPInstanceUID == stable_uid("instance", "1", "1", 2)


@needs_dcmtk
def test_patient_root(findscu: Callable[..., Found]) -> None:
    patients = findscu(
        "QueryRetrieveLevel=PATIENT",
        "PatientID",
        "PatientName",
        "NumberOfPatientRelatedStudies",
        "NumberOfPatientRelatedInstances",
        root="-P",
    )
    counts = {p.PatientID: (p.NumberOfPatientRelatedStudies, p.NumberOfPatientRelatedInstances) for p in patients}
    assert counts == {"P-1": (2, 5), "P-2": (1, 1), "p-2": (1, 1), "P-4": (1, 1)}
    assert len(patients) == 4
    of_one = findscu("QueryRetrieveLevel=STUDY", "PatientID=P-1", "StudyInstanceUID", "StudyDate=2026-", root="-P")
    assert not of_one
    assert "DataSetDoesNotMatchSOPClass" in of_one.said.replace(" ", "") or "a900" in of_one.said.lower()
    assert studies(findscu("QueryRetrieveLevel=STUDY", "PatientID=P-1", "StudyInstanceUID", root="-P")) == ["1", "5"]


@needs_dcmtk
@pytest.mark.parametrize(
    ("character_set", "encoding", "name", "expected", "answered"),
    [
        ("ISO_IR 192", "utf-8", "王*", "15", "ISO_IR 192"),
        ("GB18030", "gb18030", "*=王^小东", "15", "GB18030"),
        ("GB18030", "gb18030", "王^小?", "15", "GB18030"),
        ("ISO_IR 100", "latin-1", "MÜLLER^J*", "2", "ISO_IR 100"),
        ("ISO_IR 100", "latin-1", "Wang*", "15", "ISO_IR 192"),
        ("\\ISO 2022 IR 58", "iso2022:\x1b$)A", "王*", "15", "\\ISO 2022 IR 58"),
        ("\\ISO 2022 IR 149", "iso2022:\x1b$)C", "홍*", "4", "\\ISO 2022 IR 149"),
        ("\\ISO 2022 IR 87", "iso2022_jp", "山田*", "3", "\\ISO 2022 IR 87"),
    ],
)
def test_names_in_the_requesters_character_set(
    findscu: Callable[..., Found],
    tmp_path: Path,
    character_set: str,
    encoding: str,
    name: str,
    expected: str,
    answered: str,
) -> None:
    if encoding.startswith("iso2022:"):
        codec = "gb2312" if encoding.endswith("A") else "euc_kr"
        raw = encoding[8:].encode() + name.rstrip("*").encode(codec) + b"*"
    else:
        raw = name.encode(encoding)
    path = tmp_path / "query.dcm"
    elements = [
        (0x00080005, b"CS", character_set.encode()),
        (0x00080052, b"CS", b"STUDY"),
        (0x00100010, b"PN", raw),
        (0x0020000D, b"UI", b""),
    ]
    path.write_bytes(encoded(elements))  # by hand: no library may change the bytes of the name
    found = findscu(files=(path,))
    assert studies(found) == list(expected), found.said
    for dataset in found:
        assert dataset.get("SpecificCharacterSet", "") in (answered, answered.split("\\"))
    names = {"1": "王^小东", "2": "Müller^Jürgen", "3": "山田^太郎", "4": "홍^길동"}
    for dataset in found:  # not by pydicom, which leaves escape sequences in the text
        raw = bytes(dataset.get_item("PatientName").value)
        used = encodings_of((answered if dataset.SpecificCharacterSet else "").encode())
        assert names[expected[0]] in decode(raw, used, person_name=True)


@needs_dcmtk
def test_a_key_that_is_not_known_is_left_out_and_told(findscu: Callable[..., Found]) -> None:
    found = findscu("QueryRetrieveLevel=STUDY", "StudyInstanceUID", "StudyID=2", "PatientComments", "InstitutionName=X")
    assert studies(found) == ["2"]
    assert not {"PatientComments", "InstitutionName"} & set(found[0].dir())
    assert "WarningUnsupportedOptionalKeys" in found.said
    assert "WarningUnsupportedOptionalKeys" not in findscu("QueryRetrieveLevel=STUDY", "StudyInstanceUID").said


REQUEST = "RequestAttributesSequence[0]."


@needs_dcmtk
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (f"{REQUEST}ScheduledProcedureStepID=SPS-1", ["1"]),
        (f"{REQUEST}ScheduledProcedureStepID=SPS-*", ["1", "2"]),
        (f"{REQUEST}RequestedProcedureDescription=胸*", ["2"]),
        (f"{REQUEST}ScheduledProtocolCodeSequence[0].CodeValue=C-2", ["2"]),
        (f"{REQUEST}ScheduledProtocolCodeSequence[0].CodeValue=C-3", []),
        (f"{REQUEST}ScheduledProcedureStepID", ["1", "2", "3"]),
    ],
)
def test_sequences_are_matched_and_returned(
    findscu: Callable[..., Found], archive: SqlArchive, part10: Make, key: str, expected: list[str]
) -> None:
    for number in (1, 2):
        code, item = Dataset(), Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = f"C-{number}", "99X", "code"
        item.ScheduledProcedureStepID, item.RequestedProcedureID = f"SPS-{number}", f"RP-{number}"
        item.RequestedProcedureDescription = "胸部" if number == 2 else "Chest"
        item.ScheduledProtocolCodeSequence = [code]
        archive.store(part10(study="7", series=str(number), RequestAttributesSequence=[item]), source="TEST")
    archive.store(part10(study="7", series="3"), source="TEST")
    study = "StudyInstanceUID=" + stable_uid("study", "7")
    keys = ("QueryRetrieveLevel=SERIES", study, "SeriesInstanceUID", "SpecificCharacterSet=ISO_IR 192", key)
    found = findscu(*keys)
    assert sorted(one.SeriesNumber for one in findscu(*keys, "SeriesNumber")) == [int(one) for one in expected], (
        found.said
    )
    assert "WarningUnsupportedOptionalKeys" not in found.said
    for one in found:
        items = list(one.RequestAttributesSequence)
        assert all(len(item) == 1 for item in items), "only what was asked for"


@needs_dcmtk
def test_findscu_cancels(findscu: Callable[..., Found], archive: SqlArchive, part10: Make) -> None:
    for number in range(10, 60):
        archive.store(part10(study=str(number)), source="TEST")
    found = findscu("QueryRetrieveLevel=STUDY", "StudyInstanceUID", options=("--cancel", "1"))
    assert 1 <= len(found) <= 55
    assert "Sending Cancel Request" in found.said, found.said
    assert "Received Final Find Response" in found.said


def queried(node: DimseNode, *, extended: bytes = b"", root: str = STUDY_ROOT_FIND) -> Scu:
    scu = AE(ae_title="SCU")
    scu.add_requested_context(root, "1.2.840.10008.1.2.1")
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = root, extended or b"\0"
    association = scu.associate("127.0.0.1", node.port, ae_title="POLYCLINIC", ext_neg=[item])
    assert association.is_established
    return association


def ask(association: Scu, root: str = STUDY_ROOT_FIND, **keys: str) -> tuple[int, list[Dataset]]:
    query = Dataset()
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    *pending, (last, _) = association.send_c_find(query, root)
    return last.Status, [dataset for _, dataset in pending]


def test_the_answer_is_limited(archive: SqlArchive) -> None:
    for node in served(archive, max_matches=3):
        association = queried(node)
        status, found = ask(association, QueryRetrieveLevel="STUDY", StudyInstanceUID="")
        assert (status, len(found)) == (0xA700, 3)
        status, found = ask(association, QueryRetrieveLevel="STUDY", StudyInstanceUID="", StudyDate="20260102-20260316")
        assert (status, len(found)) == (0, 3)
        association.release()


def pdus(connection: socket.socket, until_final: bool) -> Iterator[bytes]:
    """PDUs from a connection: one, or all up to the response that is the last."""
    stream = connection.makefile("rb")
    while True:
        head = stream.read(6)
        body = stream.read(int.from_bytes(head[2:], "big"))
        yield body
        if not until_final or (body[5] & 1 and commands.decode(body[6:]).number(commands.STATUS) not in (0xFF00, None)):
            return


def command(values: dict[int, int | str], dataset: bytes = b"") -> bytes:
    encoded_command = commands.encode(values)
    out = wire.data_pdu(1, command=True, last=True, size=len(encoded_command)) + encoded_command
    return out + (wire.data_pdu(1, command=False, last=True, size=len(dataset)) + dataset if dataset else b"")


@pytest.mark.parametrize(("cancelled", "status", "most"), [(9, 0xFE00, 0), (8, 0, 5)])
def test_a_cancel_ends_the_answer_to_its_own_request(node: DimseNode, cancelled: int, status: int, most: int) -> None:
    query = command(
        {
            commands.AFFECTED_SOP_CLASS_UID: STUDY_ROOT_FIND,
            commands.COMMAND_FIELD: commands.C_FIND_RQ,
            commands.MESSAGE_ID: 9,
            commands.PRIORITY: 0,
            commands.DATA_SET_TYPE: commands.HAS_DATA_SET,
        },
        encoded([LEVEL, UID]),
    )
    cancel = command(
        {
            commands.COMMAND_FIELD: commands.C_CANCEL_RQ,
            commands.MESSAGE_ID_RESPONDED_TO: cancelled,
            commands.DATA_SET_TYPE: commands.NO_DATA_SET,
        }
    )
    with socket.create_connection(("127.0.0.1", node.port), 10) as connection:
        proposed = [(1, STUDY_ROOT_FIND, "1.2.840.10008.1.2.1")]
        connection.sendall(
            negotiation.request_pdu(
                calling_ae_title="SCU", called_ae_title="POLYCLINIC", proposed=proposed, max_pdu_bytes=16384
            )
        )
        list(pdus(connection, until_final=False))
        connection.sendall(query + cancel)  # in one go, so that the cancel is there before the first match is sent
        answers = [body for body in pdus(connection, until_final=True) if body[5] & 1]
    assert commands.decode(answers[-1][6:]).number(commands.STATUS) == status
    assert len(answers) - 1 == most


def test_upper_keys_may_be_missing_when_that_is_negotiated(node: DimseNode) -> None:
    keys = {"QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "", "Modality": "SR", "PatientName": "wang*"}
    strict, relational = queried(node), queried(node, extended=b"\1")
    assert ask(strict, **keys) == (0xA900, [])
    status, found = ask(relational, **keys)
    assert (status, [one.SeriesInstanceUID for one in found]) == (0, [stable_uid("series", "1", "2")])
    assert found[0].PatientName == "Wang^XiaoDong=王^小东"
    strict.release()
    relational.release()


def test_date_and_time_bound_one_moment_when_that_is_negotiated(node: DimseNode) -> None:
    keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": ""}
    keys |= {"StudyDate": "20260102-20260316", "StudyTime": "1030-0900"}
    apart, together = queried(node), queried(node, extended=b"\0\1")
    assert studies(ask(apart, **keys)[1]) == []
    assert studies(ask(together, **keys)[1]) == ["2"]  # after 10:30 of the 2nd of January, before 9:00 of the 16th
    apart.release()
    together.release()


@pytest.mark.parametrize(
    ("identifier", "status"),
    [
        (b"\0", 0xA900),
        (b"\x08", 0xC000),
        (encoded([LEVEL, UID])[:-3], 0xC000),
        (b"\x08\0\x52\0CS\xff\xffSTUDY", 0xC000),
        (encoded([LEVEL, (0x00100010, b"PN", b"a" * 5000)]), 0xC000),
        (encoded([LEVEL, (0x0020000D, b"UI", b"1.2\\" * 12_000)]), 0xC000),
        (encoded([LEVEL, UID]) + encoded([(tag, b"LO", b"x") for tag in range(0x00110010, 0x00110310)]), 0xC000),
        (encoded([UID]), 0xA900),
        (encoded([(0x00080052, b"CS", b"WORLD"), UID]), 0xA900),
        (encoded([(0x00080052, b"CS", b"PATIENT"), UID]), 0xA900),
        (encoded([(0x00080052, b"CS", b"IMAGE"), (0x0020000D, b"UI", b"1.2")]), 0xA900),
        (encoded([(0x00080020, b"DA", b"2026-13-01"), LEVEL, UID]), 0xA900),
        (encoded([(0x00080030, b"TM", b"1:2:3"), LEVEL, UID]), 0xA900),
        (encoded([LEVEL, (0x0020000D, b"UI", b"1.2' OR 1=1 --")]), 0xA900),
        (encoded([(0x00080050, b"SH", b"' OR '1'='1"), LEVEL, UID]), 0),
        (encoded([LEVEL, (0x00100010, b"PN", b"*a" * 400 + b"*b"), UID]), 0),
        (encoded([LEVEL, (0x00100010, b"PN", b"\xff\xfe\x1b$)C\x80*[\x00"), UID]), 0),
        (encoded([(0x00080005, b"CS", b"ISO 2022 IR 9999\\X"), LEVEL, (0x00100010, b"PN", b"\xc3*"), UID]), 0),
    ],
)
def test_hostile_identifiers_get_a_status_and_the_association_stays(
    node: DimseNode, identifier: bytes, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    association = queried(node)
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    with monkeypatch.context() as patch:
        patch.setattr("pynetdicom.association.encode", lambda *_: identifier)
        statuses = [one.Status for one, _ in association.send_c_find(query, STUDY_ROOT_FIND)]
    assert statuses == [status]
    assert ask(association, QueryRetrieveLevel="STUDY", StudyInstanceUID="", StudyID="1")[0] == 0
    association.release()


def test_logs_hold_no_patient_data(node: DimseNode) -> None:
    with capture_logs() as logs:
        association = queried(node, root=PATIENT_ROOT_FIND)
        ask(association, PATIENT_ROOT_FIND, QueryRetrieveLevel="PATIENT", PatientID="P-1", PatientName="Wang*")
        ask(association, PATIENT_ROOT_FIND, QueryRetrieveLevel="STUDY", PatientID="P-*", StudyDate="Secret")
        association.release()
    (entry,) = [entry for entry in logs if entry["event"] == "dimse.found"]
    assert (entry["peer"], entry["level"], entry["matches"]) == ("SCU", "PATIENT", 1)
    assert not any(secret in str(logs) for secret in ("Wang", "P-1", "P-*", "Secret", "王"))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
@pytest.mark.parametrize("terms", [(), ("ISO_IR 100",), ("", "ISO 2022 IR 58"), ("GBK",), ("ISO_IR 192",)])
def test_identifiers_come_back_as_they_went(syntax: str, terms: tuple[str, ...]) -> None:
    values = {"PatientName": "Wang^XiaoDong=王^小东", "StudyDescription": "胸部 CT", "StudyID": "7", "PatientID": "é"}
    data = encode_identifier([("QueryRetrieveLevel", "STUDY"), *values.items(), ("Rows", 512)], syntax, terms)
    read = read_identifier(data, syntax)
    assert read.level == "STUDY"
    assert {k: read.keys[k] for k in values} == values
    assert read.character_sets == (("ISO_IR 192",) if terms in ((), ("ISO_IR 100",)) else terms)


ELEMENTS = st.tuples(
    st.sampled_from([0x00080005, 0x00080020, 0x00080052, 0x00100010, 0x0020000D, 0x00080096, 0x50003000, 0x00110010]),
    st.sampled_from([b"CS", b"DA", b"PN", b"UI", b"SQ", b"UN", b"OB", b"\xff\xff"]),
    st.binary(max_size=40),
)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=60) | st.lists(ELEMENTS, max_size=6).map(encoded), implicit=st.booleans())
def test_any_bytes_are_an_identifier_or_are_said_to_be_none(data: bytes, implicit: bool) -> None:
    try:
        identifier = read_identifier(data, "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1")
    except BadIdentifier:
        return
    assert all("\0" not in value for value in identifier.keys.values())
