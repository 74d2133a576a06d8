"""The DICOM conformance statement in the layout of PS3.2 annex N, from the tables of `polyclinic.edges.dimse`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydicom.datadict import tag_for_keyword
from pydicom.uid import UID
from pynetdicom.sop_class import _STORAGE_CLASSES

import polyclinic
from polyclinic.app.conformance import Section, Statement, Table, table
from polyclinic.app.settings import Settings
from polyclinic.departments.archive.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from polyclinic.departments.archive.search import Level, keys_of, returned_by
from polyclinic.edges.dimse import negotiation, performed_rules
from polyclinic.edges.dimse.association import Policy
from polyclinic.edges.dimse.commitment_store import FAILURE_REASONS
from polyclinic.edges.dimse.outgoing import CONVERTIBLE_FROM, DECODABLE, instead_of
from polyclinic.edges.dimse.sequence_keys import MOST_OPENED
from polyclinic.edges.dimse.statuses import MEANINGS
from polyclinic.edges.dimse.syntaxes import (
    COMMITMENT_PUSH,
    NAMED_SOP_CLASSES,
    QUERY_RETRIEVE,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    TRANSFER_SYNTAXES,
    UNCOMPRESSED,
    VERIFICATION,
    Service,
)
from polyclinic.edges.dimse.tls import CIPHERS
from polyclinic.edges.dimse.worklist_entries import ATTRIBUTES, ITEMS, STEP_ATTRIBUTES, STEPS

USED_AS_SCU = (VERIFICATION, STUDY_ROOT_FIND, STUDY_ROOT_MOVE, STUDY_ROOT_GET, COMMITMENT_PUSH)
"""SOP classes beside storage that the platform uses at others: echo, priors from other archives, commitment."""
CHARACTER_SETS = (
    ("ISO_IR 6", "default repertoire"),
    ("ISO_IR 100, 101, 109, 110, 144, 127, 126, 138, 148, 166", "single-byte sets, with or without code extensions"),
    ("ISO 2022 IR 13, ISO 2022 IR 87, ISO 2022 IR 159", "Japanese"),
    ("ISO 2022 IR 149", "Korean"),
    ("ISO 2022 IR 58", "simplified Chinese"),
    ("GB18030, GBK", "Chinese without code extensions"),
    ("ISO_IR 192", "Unicode in UTF-8"),
)


def storage_classes() -> dict[str, str]:
    """Storage SOP classes that this version knows by name, by UID."""
    words = {str(uid): re.sub(r"(?<=[a-z])(?=[A-Z])", " ", keyword) for keyword, uid in _STORAGE_CLASSES.items()}
    names = {uid: UID(uid).name for uid in words}
    return {uid: words[uid] if names[uid] == uid else names[uid] for uid in sorted(words)}


def dicom_statement() -> Statement:
    """The statement for PS3.3 to PS3.8 and PS3.15; DICOMweb has one of its own."""
    return Statement(
        title="DICOM conformance statement of Polyclinic",
        text=(
            "Written by `polyclinic conformance dicom` from the tables that drive the node; do not edit. Research "
            "software, not a medical device.",
            f"Product: Polyclinic, version {polyclinic.__version__}. Layout: DICOM PS3.2 annex N.",
        ),
        sections=(
            _overview(),
            Section(title="Table of contents", text=("The headings of this page.",)),
            _introduction(),
            _model(),
            _services(),
            _configuration(),
            _communication(),
            _security(),
        ),
    )


def _overview() -> Section:
    named = [(name, uid, "Yes" if uid in USED_AS_SCU else "No", "Yes") for uid, (name, _) in NAMED_SOP_CLASSES.items()]
    stored = [(name, uid, "Yes", "Yes") for uid, name in storage_classes().items()]
    header = ("SOP class", "UID", "SCU", "SCP")
    return Section(
        title="Overview",
        text=(
            "Polyclinic is an archive with reading room and imaging agents. Its DICOM node receives and sends images, "
            "answers queries and retrieves, gives modalities their worklist, follows performed procedure steps and "
            "takes part in storage commitment. Storage SOP classes under 1.2.840.10008.5.1.4.1.1 that are not listed, "
            "because they are younger than this version, are taken as well; private ones are not.",
        ),
        sections=(
            Section(title="Services beside storage", tables=(table(header, named),)),
            Section(title="Storage", tables=(table(header, stored),)),
        ),
    )


def _introduction() -> Section:
    return Section(
        title="Introduction",
        text=(
            "For those who connect devices to a Polyclinic node. Conformance makes interworking likely, not certain: "
            "test before use. SCU is the side that asks, SCP the one that serves; AE is an application entity; UID a "
            "unique identifier.",
        ),
    )


def _model() -> Section:
    return Section(
        title="Implementation model",
        text=(
            "One application entity, POLYCLINIC unless set otherwise, does all services on one port without TLS and "
            "one with it. It opens associations to deliver signed objects, to route studies, to fetch priors, for the "
            "sub-operations of C-MOVE and to report storage commitment whose association has ended.",
            "Sequencing: a modality reads the worklist, reports the performed step, stores, asks for commitment. A "
            "performed step moves the scheduled steps it names to STARTED, COMPLETED or DISCONTINUED, and a step that "
            "is completed or discontinued leaves the worklist.",
        ),
    )


def _services() -> Section:
    return Section(
        title="Service and interoperability description",
        sections=(
            _verification_and_storage(),
            _query_retrieve(),
            _worklist(),
            _performed(),
            _commitment(),
        ),
    )


def _verification_and_storage() -> Section:
    return Section(
        title="Verification and storage",
        text=(
            "Success is answered once bytes and index are durable. Instances are kept bit for bit, level 2 (full), "
            "with all private attributes; nothing is coerced. The same bytes again are a success; other bytes under a "
            "known SOP Instance UID are kept aside with a warning.",
            "As SCU an instance is sent in the transfer syntax it is kept in. A peer that does not accept it gets one "
            "of those in the second table.",
        ),
        tables=(
            _statuses(Service.VERIFICATION, Service.STORE),
            table(
                ("Kept in", "Sent instead as"),
                [
                    (_syntax(one), ", ".join(map(_syntax, instead_of(one))))
                    for one in sorted(CONVERTIBLE_FROM | DECODABLE)
                ],
            ),
        ),
    )


def _query_retrieve() -> Section:
    rows = []
    for level in Level:
        matched, returned = keys_of(level), returned_by(level)
        rows += [(str(level), one, "Yes" if one in matched else "No") for one in sorted(matched | returned)]
    return Section(
        title="Query and retrieve",
        text=(
            "Single value, list of UIDs, wildcard (`*`, `?`), range and universal matching. Person names match without "
            "regard to case and accents, and by each component group. Sequences, such as Request Attributes Sequence, "
            f"are matched and returned below patient level by opening the first instance, of at most {MOST_OPENED} "
            "entities a query. Other attributes that are not listed are left out of the answer and told by status "
            "FF01. Extended negotiation: relational queries, and combined matching of date and time, when asked for.",
            "C-GET and C-MOVE take unique keys only, and lists of UIDs at the level asked for. C-MOVE sends to "
            "configured destinations.",
        ),
        tables=(table(("Level", "Attribute", "Matched"), rows), _statuses(Service.QUERY), _statuses(Service.RETRIEVE)),
    )


def _worklist() -> Section:
    rows = [(one, _tag(one)) for one in ATTRIBUTES if one != STEPS]
    rows += [(f"{STEPS} > {one}", _tag(one)) for one in STEP_ATTRIBUTES]
    rows += [
        (f"{sequence} > {one}", _tag(one)) for sequence, items in ITEMS.items() if sequence != STEPS for one in items
    ]
    return Section(
        title="Modality worklist",
        text=(
            "Scheduled procedure steps of active orders, as HL7 v2 and FHIR bring them. Every attribute of the table "
            "is matched (single value, lists of CS, AE, SH and UI, wildcard, range, sequence) and returned; what "
            "nobody has told the platform is returned empty. Ranges of start date and start time together span one "
            "time. Steps that are completed or discontinued are listed only when their status is asked for. Dates "
            "and times are those of the machine's time zone, or of Timezone Offset From UTC of the request.",
        ),
        tables=(table(("Attribute", "Tag"), rows), _statuses(Service.WORKLIST)),
    )


def _performed() -> Section:
    def rows(when: str, keywords: Iterable[str]) -> list[tuple[str, str, str]]:
        return [(when, one, _tag(one)) for one in keywords]

    rules = performed_rules
    return Section(
        title="Performed procedure step",
        text=(
            "N-CREATE, N-SET and N-GET. All attributes are kept. Attributes of type 2 count as empty when they are "
            "left out. N-SET may repeat what must not change, as long as it is the same. A discontinued step may be "
            "without series.",
        ),
        tables=(
            table(
                ("When", "Attribute", "Tag"),
                [
                    *rows("required by N-CREATE", rules.NEEDED_AT_CREATION),
                    *rows("required of a scheduled step", rules.NEEDED_OF_SCHEDULED_STEPS),
                    *rows("required to complete", rules.NEEDED_AT_END),
                    *rows("required of a series", rules.NEEDED_OF_SERIES),
                    *rows("not changed by N-SET", rules.FIXED_AT_CREATION),
                ],
            ),
            _statuses(Service.PERFORMED),
        ),
    )


def _commitment() -> Section:
    reasons = [(f"{code:04X}", meaning) for code, meaning in FAILURE_REASONS.items()]
    return Section(
        title="Storage commitment, push model",
        text=(
            "Requests survive a restart. Before the result is reported, the bytes of every instance are read and "
            "compared with the hash that was kept when it came. The report goes out on the same association while the "
            "peer keeps it open and is quiet, else on a new one to the peer's known address with role selection; it is "
            "tried again for a week.",
            "As SCU the platform takes the report on the association it has opened, or on one that the peer opens.",
        ),
        tables=(table(("Failure reason", "Meaning"), reasons), _statuses(Service.COMMITMENT)),
    )


def _configuration() -> Section:
    fields = Settings.model_fields.items()
    rows = [
        (f"`POLYCLINIC_{name.upper()}`", field.description or "")
        for name, field in fields
        if name.startswith("dicom_") or name in ("destinations", "move_destinations")
    ]
    return Section(
        title="Configuration",
        text=("Peers with their addresses and services are described in docs/dicom-node.md.",),
        tables=(table(("Setting", "Meaning"), rows),),
    )


def _communication() -> Section:
    policy = Policy(ae_title="POLYCLINIC")
    rejections = [
        (text, *map(str, reason))
        for text, reason in (
            ("Another application context", negotiation.REJECT_APPLICATION_CONTEXT),
            ("Calling AE title not known, or not from its address or certificate", negotiation.REJECT_CALLING_AE),
            ("Called AE title is another, when that is checked", negotiation.REJECT_CALLED_AE),
            ("Too many associations", negotiation.REJECT_LOCAL_LIMIT),
        )
    ]
    limits = [
        ("Longest P-DATA PDU that is announced", f"{policy.max_pdu_bytes} bytes"),
        ("Associations at once", str(policy.max_associations)),
        ("Asynchronous operations", "not negotiated: one at a time"),
        ("Wait for the next request", f"{policy.idle_s:g} s, then A-ABORT"),
        ("Wait for the rest of a PDU", f"{policy.pdu_s:g} s, then A-ABORT"),
        ("Wait for the transport to close (ARTIM)", f"{policy.artim_s:g} s"),
        ("Matches and instances of one request", str(policy.max_matches)),
        ("Implementation Class UID", IMPLEMENTATION_CLASS_UID),
        ("Implementation Version Name", IMPLEMENTATION_VERSION_NAME),
    ]
    named = [(name, uid, "see the second table") for uid, (name, _) in NAMED_SOP_CLASSES.items()]
    syntaxes = [(name, uid) for uid, name in TRANSFER_SYNTAXES.items()]
    return Section(
        title="Network and media communication details",
        text=(
            "The first of the proposed transfer syntaxes that is supported is accepted. A context whose service the "
            "peer may not use is rejected by the user (result 1), one of an unknown SOP class with result 3, one "
            "without a known transfer syntax with result 4. There is no media storage.",
        ),
        sections=(
            Section(title="Association policies", tables=(table(("What", "Value"), limits),)),
            Section(title="Rejections", tables=(table(("Why", "Result", "Source", "Reason"), rejections),)),
            Section(
                title="Presentation contexts of storage",
                text=("Every storage SOP class with every transfer syntax of this table.",),
                tables=(table(("Transfer syntax", "UID"), syntaxes),),
            ),
            Section(
                title="Presentation contexts of other services",
                tables=(
                    table(("SOP class", "UID", "Transfer syntaxes"), named),
                    table(("Transfer syntax", "UID"), [(_syntax(one), one) for one in UNCOMPRESSED]),
                ),
            ),
            Section(
                title="Extended negotiation and roles",
                tables=(
                    table(
                        ("SOP class", "What"),
                        [
                            *((NAMED_SOP_CLASSES[one][0], "relational queries") for one in sorted(QUERY_RETRIEVE)),
                            ("Storage", "SCP role of the requestor, for C-GET"),
                            (NAMED_SOP_CLASSES[COMMITMENT_PUSH][0], "SCP role of who opens an association to report"),
                        ],
                    ),
                ),
            ),
            Section(
                title="Character sets",
                text=(
                    "Every set is matched and answered. Answers use that of the request where it has every character, "
                    "then that of the peer's configuration, then UTF-8.",
                ),
                tables=(table(("Specific Character Set", "For"), CHARACTER_SETS),),
            ),
        ),
    )


def _security() -> Section:
    return Section(
        title="Security",
        text=(
            "TLS as PS3.15 asks of the non-downgrading BCP 195 profile: TLS 1.2 and 1.3, no older version, no "
            f"fallback; TLS 1.2 with forward secrecy and authenticated encryption only (OpenSSL `{CIPHERS}`). Client "
            "certificates are required when authorities are configured, and may be tied to AE titles by their SHA-256.",
            "Without TLS, peers are told apart by AE title and address only. Which services a peer may use is decided "
            "when the association is negotiated.",
        ),
    )


def _statuses(*services: Service) -> Table:
    rows = [
        (str(service), f"{status.code:04X}" + (f" ({status.error_id:04X})" if status.error_id else ""), meaning)
        for service in services
        for status, meaning in MEANINGS[service]
    ]
    return table(("Service", "Status (Error ID)", "When"), rows)


def _syntax(uid: str) -> str:
    return TRANSFER_SYNTAXES.get(uid, UID(uid).name)


def _tag(keyword: str) -> str:
    tag = int(tag_for_keyword(keyword) or 0)
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
