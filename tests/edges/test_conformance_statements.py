"""The conformance statements say what the running node does: the files are current, and each claim is tried."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import UID
from pynetdicom import AE, build_role

from polyclinic.app.conformance import Format, Section, Standard, Statement, rendered, statement
from polyclinic.app.conformance_dicom import dicom_statement, storage_classes
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.edges.dimse import statuses
from polyclinic.edges.dimse.commitment_store import Commitments, metadata
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.sources import Sources
from polyclinic.edges.dimse.statuses import MEANINGS, Status
from polyclinic.edges.dimse.syntaxes import COMMITMENT_PUSH, NAMED_SOP_CLASSES, UNCOMPRESSED, Service
from polyclinic.edges.memory_records import InMemoryRecord

DOCS = Path(__file__).resolve().parents[2] / "docs" / "conformance"
CT = "1.2.840.10008.5.1.4.1.1.2"
MOST_CONTEXTS = 128


@pytest.mark.parametrize("standard", list(Standard))
def test_the_page_is_what_the_tables_say(standard: Standard) -> None:
    kept = (DOCS / f"{standard}.md").read_text("utf-8")
    assert kept == rendered(statement(standard), Format.MARKDOWN), (
        "write it anew: polyclinic conformance --all-into docs/conformance"
    )


def test_the_command_prints_the_same_as_json() -> None:
    command = [sys.executable, "-m", "polyclinic", "conformance", "dicom", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == json.loads(rendered(dicom_statement(), Format.JSON))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DimseNode]:
    from polyclinic.departments.archive.schema import metadata as archive_tables
    from polyclinic.edges.sql.engine import open_engine

    folder = tmp_path_factory.mktemp("conformance")
    engine = open_engine(f"sqlite:///{folder / 'index.db'}")
    archive_tables.create_all(engine)
    metadata.create_all(engine)
    archive, record = SqlArchive(engine, folder / "segments"), InMemoryRecord()
    node = DimseNode(Sources(archive=archive, orders=record, patients=record, commitments=Commitments(engine)), port=0)
    node.start()
    yield node
    node.stop()
    archive.close()
    engine.dispose()


def negotiated(node: DimseNode, proposed: list[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Result of each presentation context, by SOP class and transfer syntax."""
    results: dict[tuple[str, str], int] = {}
    for start in range(0, len(proposed), MOST_CONTEXTS):
        part = proposed[start : start + MOST_CONTEXTS]
        scu = AE(ae_title="CHECK")
        for sop_class, syntax in part:
            scu.add_requested_context(sop_class, syntax)
        association = scu.associate("127.0.0.1", node.port)
        contexts = [*association.accepted_contexts, *association.rejected_contexts]
        for (sop_class, syntax), one in zip(part, sorted(contexts, key=lambda c: c.context_id or 0), strict=True):
            assert one.abstract_syntax == sop_class
            assert one.result != 0 or one.transfer_syntax == [syntax]
            results[sop_class, syntax] = int(one.result)
        if association.is_established:
            association.release()
    return results


def column(one: Statement | Section, header: str, of: str = "") -> Iterator[str]:
    """Every cell below a header, in all tables or in those that begin with a column `of`."""
    for table in getattr(one, "tables", ()):
        if header in table.header and of in ("", table.header[0]):
            yield from (row[table.header.index(header)] for row in table.rows)
    for section in one.sections:
        yield from column(section, header, of)


def test_every_claimed_class_and_syntax_is_accepted(node: DimseNode) -> None:
    claimed = dicom_statement()
    classes = set(column(claimed, "UID", of="SOP class"))
    syntaxes = set(column(claimed, "UID", of="Transfer syntax"))
    assert classes >= {*NAMED_SOP_CLASSES, *storage_classes()}
    assert len(syntaxes) > 35
    named = [(one, syntax) for one in sorted(classes & NAMED_SOP_CLASSES.keys()) for syntax in UNCOMPRESSED]
    stored = sorted(classes - NAMED_SOP_CLASSES.keys())
    proposed = [*named, *((one, "1.2.840.10008.1.2.1") for one in stored), *((CT, one) for one in sorted(syntaxes))]
    results = negotiated(node, list(dict.fromkeys(proposed)))
    assert {pair: result for pair, result in results.items() if result} == {}


def test_what_is_not_claimed_is_refused(node: DimseNode) -> None:
    claimed = set(column(dicom_statement(), "UID"))
    others = {
        "1.2.840.10008.5.1.1.9",  # print
        "1.2.840.10008.5.1.4.34.6.1",  # UPS push
        "1.2.840.10008.5.1.4.1.2.3.1",  # patient/study only
        "1.2.840.10008.5.1.4.38.1",  # hanging protocol
        "1.2.840.10008.1.9",
        "1.3.12.2.1107.5.9.1",  # private
    }
    assert not others & claimed
    results = negotiated(node, [(one, "1.2.840.10008.1.2.1") for one in sorted(others)])
    assert set(results.values()) == {3}
    unknown = ["1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.6.1", "1.2.826.0.1.3680043.2.1"]
    pairs = [(CT, one) for one in unknown] + [(one, "1.2.840.10008.1.2.4.50") for one in sorted(NAMED_SOP_CLASSES)]
    assert not set(unknown) & claimed
    assert set(negotiated(node, pairs).values()) == {4}


def test_claimed_roles_are_agreed(node: DimseNode) -> None:
    scu = AE(ae_title="CHECK")
    roles = [build_role(one, scu_role=False, scp_role=True) for one in (CT, COMMITMENT_PUSH)]
    for one in (CT, COMMITMENT_PUSH):
        scu.add_requested_context(one)
    association = scu.associate("127.0.0.1", node.port, ext_neg=roles)
    assert [(one.as_scu, one.as_scp) for one in association.accepted_contexts] == [(False, True)] * 2
    association.release()


def test_every_status_in_use_is_claimed_and_every_claimed_one_is_in_use() -> None:
    in_use = {value for value in vars(statuses).values() if isinstance(value, Status)}
    in_use |= set(statuses._BY_CODE.values())
    makers = (statuses.mismatch, statuses.missing, statuses.missing_value, statuses.invalid_value)
    made = {make("").code for make in makers}
    claimed = {status for rows in MEANINGS.values() for status, _ in rows}
    assert in_use <= claimed
    assert {one.code for one in claimed} == {one.code for one in in_use} | made
    printed = set(column(dicom_statement(), "Status (Error ID)"))
    assert {text[:4] for text in printed} == {f"{one.code:04X}" for one in claimed}
    assert "0110 (A710)" in printed
    assert set(MEANINGS) == set(Service)
    for rows in MEANINGS.values():
        assert len({status for status, _ in rows}) == len(rows)


def test_every_class_has_the_name_that_the_standard_gives_it() -> None:
    for uid, (name, _) in NAMED_SOP_CLASSES.items():
        assert UID(uid).name.replace("–", "-").startswith(name.split(" - ")[0])
    assert all(not name.startswith("1.2.") for name in storage_classes().values())
