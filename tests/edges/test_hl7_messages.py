"""Patients and orders out of HL7 messages, and what is answered: without sockets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyclinic.core.errors import Rejected, Unavailable
from polyclinic.departments.records.patients import (
    OrderPriority,
    OrderStatus,
    PatientChangeKind,
    PatientKey,
    PatientRecord,
)
from polyclinic.departments.records.ports import OrderQuery, PatientQuery
from polyclinic.edges.hl7v2.er7 import components, escape, parse, unescape
from polyclinic.edges.hl7v2.fields import xpn
from polyclinic.edges.hl7v2.inbound import Inbound
from polyclinic.edges.memory_records import InMemoryInbox, InMemoryRecord

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
WANG = "PID|||P-1^^^SITE-A^MR||Wang^XiaoDong^^^^^L^A~王^小东^^^^^L^I||19600102|M"
HONG = "Hong^Gildong^^^^^L^A~洪^吉洞^^^^^L^I~홍^길동^^^^^L^P"
YAMADA = "Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P"


@dataclass(slots=True)
class House:
    record: InMemoryRecord = field(default_factory=InMemoryRecord)
    inbox: InMemoryInbox = field(default_factory=InMemoryInbox)
    issuer: str = "SITE-A"

    @property
    def inbound(self) -> Inbound:
        return Inbound(record=self.record, inbox=self.inbox, site_issuer=self.issuer, now=lambda: NOW)

    def send(self, *segments: str, codec: str = "utf-8") -> str:
        return self.inbound.answer("\r".join(segments).encode(codec)).decode(codec)

    def adt(self, event: str, *segments: str, control_id: str = "", version: str = "2.5.1") -> str:
        control_id = control_id or f"M{len(self.record._changes)}{abs(hash(segments)) % 10**9}"
        return self.send(header(f"ADT^{event}", control_id, version=version), f"EVN|{event}|20260101", *segments)

    def patient(self, patient_id: str = "P-1", issuer: str = "SITE-A") -> PatientRecord:
        return self.record.patient(PatientKey(patient_id=patient_id, issuer=issuer))


def header(kind: str, control_id: str = "M1", *, version: str = "2.5.1", charset: str = "UNICODE UTF-8") -> str:
    return f"MSH|^~\\&|HIS|HOSPITAL|POLYCLINIC|RAD|20260304050607+0800||{kind}|{control_id}|P|{version}||||||{charset}"


def order_message(
    control: str = "NW", *, obr: str = "", control_id: str = "O1", extra: tuple[str, ...] = ()
) -> tuple[str, ...]:
    orc = f"ORC|{control}|PL-1^HIS|FI-1^RIS||||^^^202603051000^^S||20260304|||1234^Lee^Ann^^^Dr"
    obr = obr or (
        "OBR|1|PL-1^HIS|FI-1^RIS|24627-2^CT Chest^LN|||||||||cough&fever|||1234^Lee^Ann||ACC-9|RP-1|SPS-1|CT1|||CT"
        "|||||||^Lung cancer?|||||202603051030"
    )
    return (header("ORM^O01", control_id), WANG, "PV1||I|W1^2^B", orc, obr.replace("&", "\\T\\"), *extra)


def test_a_registered_patient_is_kept_with_every_name() -> None:
    house = House()
    answer = house.adt("A04", WANG, "PV1||E|ER^1", control_id="MSG-7")
    assert "MSA|AA|MSG-7\r" in answer
    assert answer.split("|")[8] == "ACK^A04^ACK"
    kept = house.patient()
    assert (kept.name, kept.birth_date, kept.sex) == ("Wang^XiaoDong=王^小东", date(1960, 1, 2), "M")
    assert (kept.patient_class, kept.location) == ("E", "ER 1")
    assert house.record.patient_history(kept.key)[0].source == "HL7 ADT^A04"


@pytest.mark.parametrize(
    ("charset", "codec", "name", "kept", "searched"),
    [
        ("UNICODE UTF-8", "utf-8", "Zoë^Müller", "Zoë^Müller", "muller"),
        ("8859/1", "latin-1", "Müller^Jürgen", "Müller^Jürgen", "jurg"),
        ("8859/15", "iso8859-15", "Œuvre^Zoé", "Œuvre^Zoé", "œuvre"),
        ("GB 18030-2000", "gb18030", "王^小东", "王^小东", "王小东"),
        ("GB18030", "gb18030", "𠮷^㐀", "𠮷^㐀", "𠮷"),
        ("KS X 1001", "cp949", HONG, "Hong^Gildong=洪^吉洞=홍^길동", "홍길동"),
        ("~ISO IR87", "iso2022_jp_2", YAMADA, "Yamada^Tarou=山田^太郎=やまだ^たろう", "山田太"),
        ("BIG-5", "big5hkscs", "陳^大文", "陳^大文", "陳大"),
    ],
)  # fmt: skip
def test_names_of_the_world_are_kept_and_found(charset: str, codec: str, name: str, kept: str, searched: str) -> None:
    house = House()
    answer = house.send(header("ADT^A04", charset=charset), f"PID|||P-1||{name}", codec=codec)
    assert "MSA|AA|M1" in answer
    assert house.patient().name == kept
    assert [p.key.patient_id for p in house.record.find_patients(PatientQuery(name=searched))] == ["P-1"]


def test_eight_bit_katakana_and_escaped_designations_are_read() -> None:
    house = House()
    raw = header("ADT^A04", charset="ISO IR14~ISO IR87").encode() + b"\rPID|||P-1||" + "ﾔﾏﾀﾞ^ﾀﾛｳ".encode("shift_jis")
    raw += b"^^^^^L^A~\\M2442\\;3ED\\C2842\\^\\M2442\\B@O:\\C2842\\^^^^^L^I"
    assert b"MSA|AA" in house.inbound.answer(raw)
    assert house.patient().name == "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"


def test_kanji_bytes_that_look_like_separators_are_none() -> None:
    house = House()
    encoded = "表^能".encode("iso2022_jp")
    assert b"|" in "表能構欺畑".encode("iso2022_jp") or b"=" in encoded
    raw = header("ADT^A04", charset="~ISO IR87").encode() + b"\rPID|||P-1||" + "欺^畑能表".encode("iso2022_jp")
    house.inbound.answer(raw)
    assert house.patient().name == "欺^畑能表"


def test_unmarked_names_go_by_their_script() -> None:
    house = House()
    house.adt("A04", "PID|||P-1||Wang^XiaoDong~王^小东")
    assert house.patient().name == "Wang^XiaoDong=王^小东"


def test_an_update_changes_what_it_names_and_empties_what_it_nulls() -> None:
    house = House()
    house.adt("A04", WANG, "PV1||I|W1")
    house.adt("A08", 'PID|||P-1^^^SITE-A||Wong^XiaoDong||""')
    kept = house.patient()
    assert (kept.name, kept.birth_date, kept.sex, kept.location) == ("Wong^XiaoDong", None, "M", "W1")
    assert [c.kind for c in house.record.patient_history(kept.key)] == [
        PatientChangeKind.CREATED,
        PatientChangeKind.UPDATED,
    ]


def test_the_sites_own_identifier_wins_and_a_bare_one_is_the_sites() -> None:
    house = House()
    house.adt("A04", "PID|||NAT-1^^^NATION^NI~P-9^^^SITE-A^PI~P-1^^^SITE-A^MR||A^B")
    assert house.patient("P-1").name == "A^B"
    house.adt("A04", "PID|||P-2||C^D")
    assert house.patient("P-2", "SITE-A").name == "C^D"
    house.adt("A04", "PID|||X-1^^^&1.2.840.1&ISO||E^F")
    assert house.patient("X-1", "1.2.840.1").name == "E^F"


@pytest.mark.parametrize("event", ["A40", "A47"])
def test_a_merge_joins_two_identities(event: str) -> None:
    house = House()
    house.adt("A04", WANG)
    house.adt("A04", "PID|||TMP-1^^^SITE-A||Unknown^Male")
    answer = house.adt(event, WANG, "MRG|TMP-1^^^SITE-A")
    assert "MSA|AA" in answer
    assert house.record.surviving(PatientKey(patient_id="TMP-1", issuer="SITE-A")) == house.patient().key
    assert "MSA|AE" in house.adt("A08", "PID|||TMP-1^^^SITE-A||New^Name")


def test_a_merge_of_several_pairs_does_each() -> None:
    house = House()
    answer = house.adt("A40", WANG, "MRG|T-1", "PID|||P-2||Li^Na", "MRG|T-2")
    assert "MSA|AA" in answer
    assert house.patient("T-1").merged_into == PatientKey(patient_id="P-1", issuer="SITE-A")
    assert house.patient("T-2").merged_into == PatientKey(patient_id="P-2", issuer="SITE-A")


def test_merging_the_wrong_way_round_is_refused_with_a_reason() -> None:
    house = House()
    house.adt("A40", WANG, "MRG|P-2")
    answer = house.adt("A40", "PID|||P-2||Li^Na", "MRG|P-1")
    assert "MSA|AE" in answer
    assert "ERR||" in answer
    assert "Wang" not in answer


def test_a_repeated_message_is_answered_alike_and_done_once() -> None:
    house = House()
    first = house.adt("A04", WANG, control_id="M1")
    house.adt("A08", WANG.replace("Wang", "Wong"), control_id="M2")
    again = house.adt("A04", WANG, control_id="M1")
    assert ("MSA|AA|M1" in first, "MSA|AA|M1" in again) == (True, True)
    assert house.patient().name.startswith("Wong")
    house.adt("A08", WANG.replace("Wang", "Weng"), control_id="M1")
    assert house.patient().name.startswith("Weng"), "a reused control id with another content is another message"


def test_what_could_not_be_kept_is_not_noted_and_comes_again() -> None:
    class Broken(InMemoryRecord):
        broken = True

        def put_patient(self, *arguments: object, **named: object) -> PatientRecord:
            if self.broken:
                raise Unavailable("x.y", "no")
            return super().put_patient(*arguments, **named)  # type: ignore[arg-type]

    record = Broken()
    house = House(record=record)
    answer = house.adt("A04", WANG, control_id="M1")
    assert "MSA|AR|M1" in answer
    assert "^207" not in answer
    assert "207^Application internal error^HL70357" in answer
    record.broken = False
    assert "MSA|AA|M1" in house.adt("A04", WANG, control_id="M1")
    assert house.patient().sex == "M"


def test_an_order_becomes_a_worklist_entry() -> None:
    house = House()
    assert "MSA|AA|O1" in house.send(*order_message(extra=("ZDS|1.2.3.4^RIS^Application^DICOM",)))
    (order,) = house.record.find_orders(OrderQuery(accession_number="ACC-9"))
    assert (order.placer_number, order.filler_number, order.requested_procedure_id) == ("PL-1", "FI-1", "RP-1")
    assert (order.description, order.indication) == ("CT Chest", "cough&fever Lung cancer?")
    assert (order.requester, order.priority, order.status) == ("Lee^Ann^^Dr", OrderPriority.STAT, OrderStatus.ACTIVE)
    assert order.study_instance_uid == "1.2.3.4"
    (step,) = order.steps
    assert (step.step_id, step.modality, step.station_ae_title) == ("SPS-1", "CT", "CT1")
    assert step.starts_at.isoformat() == "2026-03-05T10:30:00+08:00", "the zone of MSH-7 holds for the message"
    assert house.patient().location == "W1 2 B"


def test_an_order_of_2_5_1_has_a_step_for_each_ipc() -> None:
    house = House()
    answer = house.send(
        header("OMI^O23"),
        WANG,
        "ORC|NW|PL-1|FI-1",
        "TQ1|1||||||20260305093000+0000||A",
        "OBR|1|PL-1|FI-1|P1^Thorax^99SITE",
        "IPC|A-1|RP-1|1.2.3^^^DICOM|S1|CT|X1^Low dose^99SITE|SCANNER|ROOM1|CT_AE",
        "IPC|A-1|RP-1|1.2.3^^^DICOM|S2|CT|X2^Contrast^99SITE|SCANNER|ROOM1|CT_AE",
    )
    assert "MSA|AA" in answer
    (order,) = house.record.find_orders(OrderQuery(station_ae_title="CT_AE"))
    assert (order.accession_number, order.study_instance_uid, order.priority) == ("A-1", "1.2.3", OrderPriority.ASAP)
    assert [(s.step_id, s.description, s.location) for s in order.steps] == [
        ("S1", "Low dose", "ROOM1"),
        ("S2", "Contrast", "ROOM1"),
    ]
    assert order.procedure is not None
    assert order.procedure.system == "urn:dicom:designator:99SITE"


def test_orders_are_changed_held_cancelled_and_keep_their_history() -> None:
    house = House()
    house.send(*order_message())
    (order,) = house.record.find_orders(OrderQuery())
    moved = order_message()[-1].replace("202603051030", "202603061100")
    house.send(*order_message("XO", obr=moved, control_id="O2"))
    house.send(header("ORM^O01", "O3"), WANG, "ORC|HD|PL-1")
    house.send(header("ORM^O01", "O4"), WANG, "ORC|CA||FI-1")
    versions = house.record.order_history(order.order_id)
    assert [v.status for v in versions] == [
        OrderStatus.ACTIVE,
        OrderStatus.ACTIVE,
        OrderStatus.ON_HOLD,
        OrderStatus.REVOKED,
    ]
    assert versions[-1].steps[0].starts_at.day == 6
    assert versions[-1].study_instance_uid == order.study_instance_uid != ""


def test_a_filler_number_that_comes_later_joins_the_placers_order() -> None:
    house = House()
    house.send(header("ORM^O01", "O1"), WANG, "ORC|NW|PL-7", "OBR|1|PL-7||X^Y^L")
    house.send(header("ORM^O01", "O2"), WANG, "ORC|SC|PL-7|FI-7||CM")
    (order,) = house.record.find_orders(OrderQuery())
    assert (order.filler_number, order.status) == ("FI-7", OrderStatus.COMPLETED)


def test_an_order_never_moves_to_another_patient_by_its_number() -> None:
    house = House()
    house.send(*order_message())
    other = [s.replace("P-1^^^SITE-A^MR", "P-2^^^SITE-A^MR") for s in order_message(control_id="O2")]
    answer = house.send(*other)
    assert "MSA|AE|O2" in answer
    assert "205^" in answer
    house.adt("A40", "PID|||P-2||Wang^X", "MRG|P-1")
    assert "MSA|AA|O3" in house.send(*order_message(control_id="O3")), "the old identity means the surviving one"
    (order,) = house.record.find_orders(OrderQuery())
    assert order.patient.patient_id == "P-2"


@pytest.mark.parametrize(
    ("segments", "answer", "code"),
    [
        (["ORC|CA|NOBODY"], "AE", "204"),
        (["ORC|ZZ|PL-1"], "AE", "103"),
        (["ORC|NW|", "OBR|1"], "AE", "101"),
        (["ORC|NW|PL-1"], "AE", "100"),
        ([], "AE", "100"),
    ],
)
def test_orders_that_cannot_be_are_refused(segments: list[str], answer: str, code: str) -> None:
    house = House()
    said = house.send(header("ORM^O01"), WANG, *segments)
    assert f"MSA|{answer}|M1" in said
    assert f"|{code}^" in said
    assert house.record.find_orders(OrderQuery()) == ()


@pytest.mark.parametrize(
    ("kind", "version", "answer", "code"),
    [
        ("ADT^A99", "2.5.1", "AR", "201"),
        ("MDM^T02", "2.5.1", "AR", "200"),
        ("ADT^A04", "2.9", "AR", "203"),
        ("ADT^A04", "", "AR", "203"),
    ],
)
def test_what_is_not_served_is_rejected(kind: str, version: str, answer: str, code: str) -> None:
    said = House().send(header(kind, version=version), WANG)
    assert f"MSA|{answer}|M1" in said
    assert f"|{code}^" in said


def test_older_versions_get_their_own_form_of_error() -> None:
    said = House().send(header("ADT^A04", version="2.3.1"), "PID|||||Nobody")
    assert said.split("|")[11] == "2.3.1"
    assert "ERR|PID^1^3^101&Required field missing&HL70357\r" in said


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\x00",
        b"PID|||P-1",
        b"MSH",
        b"MSH|^~\\&",
        b"MSH|||||||||",
        b"MSHAAAAAAAAAAAA",
        b"MSH|^^\\&|a|b\rPID|||P-1",
        b"MSH|^~\\&|HIS|H|||2026||ADT^A04||P|2.5.1\rPID|||P-1||X",
        b"MSH|^~\\&|HIS|H|||2026||ADT^A04|1|P|2.5.1\rpid|||P-1||X",
        b"MSH|^~\\&|HIS|H|||2026||ADT^A04|1|P|2.5.1\rPID|||P-1||X\0Y",
        b"MSH|^~\\&|HIS|H|||2026||ADT^A04|1|P|2.5.1||||||UNICODE UTF-8\rPID|||P-1||\xff\xfe",
        b"MSH|^~\\&|HIS|H|||2026||ADT^A04|1|P|2.5.1||||||KLINGON\rPID|||P-1||X",
        b"MSH|^~\\&|HIS|H|||2026||ADT^A04|1|P|2.5.1\rMSH|^~\\&|x\rPID|||P-1||X",
        b"MSH|^~\\&|HIS|H|||2026||ADT^A04|1|P|2.5.1" + b"\rNTE|1" * 6000,
        b"MSH|^~\\&|HIS|H|||2026||ADT^A04|" + b"9" * 500 + b"|P|2.5.1\rPID|||P-1||X",
        b"MSH|^~\\&|HIS|H|||2026||ADT^A04|1|P|2.5.1\rPID|||" + b"9" * 500 + b"||X",
        b"MSH|^~\\&|HIS|H|||2026||ADT^A04|1|P|2.5.1\rPID|||P-1||" + b"X" * 5000,
    ],
)
def test_hostile_messages_are_refused_and_change_nothing(raw: bytes) -> None:
    house = House()
    answer = house.inbound.answer(raw)
    assert answer.startswith(b"MSH|^~\\&|POLYCLINIC|")
    assert b"\rMSA|A" in answer
    assert b"\rMSA|AA" not in answer
    assert house.record.find_patients(PatientQuery(include_merged=True)) == ()


def test_a_million_separators_cost_little() -> None:
    raw = b"MSH|^~\\&|HIS|H|||2026||ADT^A04|1|P|2.5.1\rPID|||" + b"~^&|" * 250_000
    assert b"MSA|AE" in House().inbound.answer(raw)


def test_escapes_are_read_once() -> None:
    assert unescape("a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f") == "a|b^c&d~e\\f"
    assert unescape("\\E\\F\\E\\") == "\\F\\", "what comes out of one escape is never read as another"
    assert unescape("\\X41C3A9\\\\H\\bold\\N\\\\Zxx\\\\.br\\") == "Aébold\n"
    assert unescape("\\X00\\\\Xzz\\") == ""
    assert unescape("open \\ end") == "open \\ end"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\x0b\x1c")))
def test_what_is_escaped_comes_back(text: str) -> None:
    assert unescape(escape(text)) == text
    assert not set(escape(text).replace("\\E\\", "").replace("\\.br\\", "")) & set("|^&~\n")


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_are_said_to_be_none(raw: bytes) -> None:
    for candidate in (raw, b"MSH|^~\\&|" + raw):
        try:
            message = parse(candidate)
        except Rejected:
            continue
        for segment in message.segments:
            for number in range(1, 12):
                assert isinstance(segment.text_of(number, 2), str)


def test_a_name_goes_out_as_it_came_in() -> None:
    house = House()
    name = "Yamada^Tarou^M^Dr^Jr=山田^太郎=やまだ^たろう"
    house.adt("A04", f"PID|||P-1||{xpn(name)}")
    assert house.patient().name == name
    assert components("a", "", "b|c", "") == "a^^b\\F\\c"
