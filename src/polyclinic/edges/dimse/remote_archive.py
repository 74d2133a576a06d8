"""The asking side of query and retrieve: C-FIND, C-GET and C-MOVE at another archive (DICOM PS3.4 C), by pynetdicom.

It is rare and waits for the other side, so a library may do it; what must be fast is `sender` and `wire`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association

from polyclinic.core.errors import PolyclinicError, Unavailable
from polyclinic.core.ids import is_uid_lenient
from polyclinic.departments.routing.contracts import Destination, PatientIdentity, RemoteStudy
from polyclinic.departments.routing.ports import Arriving
from polyclinic.edges.dimse.forwarding import tls_settings
from polyclinic.edges.dimse.retrievable import storage_contexts
from polyclinic.edges.dimse.statuses import PROCESSING_FAILURE, status_of
from polyclinic.edges.dimse.syntaxes import STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from polyclinic.edges.dimse.tls import client_context

_CONNECT_S = 5.0
_WATCH_EVERY_S = 0.2
_REPLY_S = 60.0
_MAX_STUDIES = 1000
_MAX_ASKED_FOR_SERIES = 40
"""Of so many studies, the newest, the body parts are asked for."""
_PENDING = frozenset({0xFF00, 0xFF01})
_MAX_PDU_BYTES = 131072
_STUDY_KEYS = (
    "StudyDate",
    "StudyTime",
    "StudyInstanceUID",
    "ModalitiesInStudy",
    "StudyDescription",
    "SOPClassesInStudy",
    "NumberOfStudyRelatedInstances",
    "PatientName",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instance:
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset: bytes


class DicomRemoteArchive:
    """Port `polyclinic.departments.routing.ports.RemoteArchive`.

    Parameters
    ----------
    ae_title
        Our own; with C-MOVE the other archive must know at which address it listens.
    stopping
        Set when the process is about to stop: whatever is under way is given up.
    """

    def __init__(self, *, ae_title: str, stopping: threading.Event | None = None) -> None:
        self._ae_title = ae_title
        self._stopping = stopping or threading.Event()

    def find(self, source: Destination, identity: PatientIdentity, *, limit_s: float) -> Sequence[RemoteStudy]:
        """See `RemoteArchive.find`; study root, as every archive has it."""
        query = Dataset()
        query.QueryRetrieveLevel = "STUDY"
        for keyword in _STUDY_KEYS:
            setattr(query, keyword, "")
        query.PatientID = identity.patient_id
        if not identity.patient_id.isascii():
            query.SpecificCharacterSet = "ISO_IR 192"
        deadline = time.monotonic() + limit_s
        with self._associated(source, [build_context(STUDY_ROOT_FIND)], deadline) as association:
            answers = list(self._answers(association, query, deadline, limit=_MAX_STUDIES))
            studies = [study for answer in answers if (study := _study_of(answer, source)) is not None]
            studies.sort(key=lambda s: s.study_date, reverse=True)
            asked = [self._with_series(association, s, deadline) for s in studies[:_MAX_ASKED_FOR_SERIES]]
        return (*asked, *studies[_MAX_ASKED_FOR_SERIES:])

    def fetch(
        self,
        source: Destination,
        study: RemoteStudy,
        keep: Callable[[Arriving], None],
        *,
        retrieve: str,
        limit_s: float,
    ) -> None:
        """See `RemoteArchive.fetch`."""
        deadline = time.monotonic() + limit_s
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "STUDY"
        identifier.StudyInstanceUID = study.study_instance_uid
        if retrieve == "c-move":
            with self._associated(source, [build_context(STUDY_ROOT_MOVE)], deadline) as association:
                self._follow(
                    association, association.send_c_move(identifier, self._ae_title, STUDY_ROOT_MOVE), deadline
                )
            return

        def store(event: evt.Event) -> int:
            if self._is_over(deadline):
                event.assoc.abort()
                return PROCESSING_FAILURE.code
            request: Any = event.request
            try:
                keep(
                    _Instance(
                        sop_class_uid=str(request.AffectedSOPClassUID),
                        sop_instance_uid=str(request.AffectedSOPInstanceUID),
                        transfer_syntax_uid=str(event.context.transfer_syntax),
                        dataset=request.DataSet.getvalue(),
                    )
                )
            except PolyclinicError as error:
                return status_of(error).code
            return 0

        classes, contexts = storage_contexts(study.sop_class_uids, study.modalities)
        roles = [build_role(uid, scp_role=True) for uid in classes]
        handlers = [(evt.EVT_C_STORE, store)]
        with self._associated(
            source, [build_context(STUDY_ROOT_GET), *contexts], deadline, roles, handlers
        ) as association:
            self._follow(association, association.send_c_get(identifier, STUDY_ROOT_GET), deadline)

    def _with_series(self, association: Association, study: RemoteStudy, deadline: float) -> RemoteStudy:
        """The study with modalities and body parts of its series; as it is when the archive does not tell them."""
        query = Dataset()
        query.QueryRetrieveLevel = "SERIES"
        query.StudyInstanceUID = study.study_instance_uid
        for keyword in ("SeriesInstanceUID", "Modality", "BodyPartExamined"):
            setattr(query, keyword, "")
        series = list(self._answers(association, query, deadline, limit=_MAX_STUDIES))
        parts = {text for one in series if (text := _text(one, "BodyPartExamined"))}
        modalities = {text for one in series if (text := _text(one, "Modality"))}
        return RemoteStudy(
            study_instance_uid=study.study_instance_uid,
            identity=study.identity,
            study_date=study.study_date,
            modalities=tuple(sorted({*study.modalities, *modalities})),
            body_parts=tuple(sorted(parts)),
            description=study.description,
            instance_count=study.instance_count,
            sop_class_uids=study.sop_class_uids,
        )

    def _answers(self, association: Association, query: Dataset, deadline: float, *, limit: int) -> Iterator[Dataset]:
        count = 0
        for status, answer in association.send_c_find(query, STUDY_ROOT_FIND):
            code = int(status.get("Status", -1))
            if self._is_over(deadline):
                raise _no_answer("it took too long")
            if code in _PENDING and answer is not None:
                count += 1
                if count > limit:
                    raise _no_answer("it found too many studies of one patient")
                yield answer
            elif code:
                raise _no_answer(f"C-FIND ended with status {code:04X}H" if code > 0 else "the association broke")

    def _follow(
        self, association: Association, answers: Iterator[tuple[Dataset, Dataset | None]], deadline: float
    ) -> None:
        """Wait until everything was sent."""
        failed = 0
        for status, _ in answers:
            code = int(status.get("Status", -1))
            failed = int(status.get("NumberOfFailedSuboperations", failed) or 0)
            if code in _PENDING and self._is_over(deadline):
                raise _no_answer("it took too long")
            if code not in _PENDING and code:
                told = f"status {code:04X}H, {failed} failed" if code > 0 else "the association broke"
                raise Unavailable("priors.not-all", f"The archive could not send every image of the prior ({told})")

    def _is_over(self, deadline: float) -> bool:
        return self._stopping.is_set() or time.monotonic() > deadline

    @contextmanager
    def _associated(
        self,
        source: Destination,
        contexts: Sequence[Any],
        deadline: float,
        roles: Sequence[Any] = (),
        handlers: Sequence[Any] = (),
    ) -> Iterator[Association]:
        left_s = max(0.1, deadline - time.monotonic())
        entity = AE(ae_title=self._ae_title)
        entity.connection_timeout = min(_CONNECT_S, left_s)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = min(_REPLY_S, left_s)
        opened: list[Association] = []
        ended = threading.Event()

        def begin(event: evt.Event) -> None:
            opened.append(event.assoc)
            _without_delay(event)

        def watch() -> None:
            # The library waits for its peer with time-outs of its own; a stop of the platform must not
            while not ended.wait(_WATCH_EVERY_S):
                if self._is_over(deadline):
                    for one in opened:
                        _interrupt(one)
                    return

        threading.Thread(target=watch, name=f"watch {source.name}", daemon=True).start()
        try:
            yield from self._conversing(entity, source, contexts, roles, [(evt.EVT_CONN_OPEN, begin), *handlers])
        finally:
            ended.set()

    def _conversing(
        self, entity: AE, source: Destination, contexts: Sequence[Any], roles: Sequence[Any], handlers: Sequence[Any]
    ) -> Iterator[Association]:
        association = entity.associate(
            source.host,
            source.port,
            contexts=list(contexts),
            ae_title=source.ae_title,
            max_pdu=_MAX_PDU_BYTES,
            ext_neg=list(roles),
            tls_args=(client_context(tls_settings(source.tls)), source.host) if source.tls else None,
            evt_handlers=list(handlers),
        )
        if not association.is_established:
            raise _no_answer("it cannot be reached or rejects the association: check address, AE titles and TLS")
        try:
            if contexts[0].abstract_syntax not in {c.abstract_syntax for c in association.accepted_contexts}:
                raise _no_answer("it does not offer this service to us")
            yield association
        except BaseException:
            association.abort()
            raise
        association.release()


def _without_delay(event: evt.Event) -> None:
    """Small requests go out at once; the other side's delayed acknowledgements cost 40 ms each otherwise."""
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        with suppress(OSError):
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _interrupt(association: Association) -> None:
    """End whatever wait the library is in."""
    connection = association.dul.socket
    if connection is not None and connection.socket is not None:
        with suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RDWR)


def _study_of(answer: Dataset, source: Destination) -> RemoteStudy | None:
    uid = _text(answer, "StudyInstanceUID")
    if not is_uid_lenient(uid):
        return None
    count = _text(answer, "NumberOfStudyRelatedInstances")
    return RemoteStudy(
        study_instance_uid=uid,
        identity=PatientIdentity(
            patient_id=_text(answer, "PatientID"),
            issuer=_text(answer, "IssuerOfPatientID") or source.issuer,
            birth_date=_text(answer, "PatientBirthDate"),
            sex=_text(answer, "PatientSex"),
        ),
        study_date=_text(answer, "StudyDate").replace(".", ""),
        modalities=_texts(answer, "ModalitiesInStudy"),
        description=_text(answer, "StudyDescription"),
        instance_count=int(count) if count.isascii() and count.isdigit() and len(count) < 10 else None,
        sop_class_uids=tuple(filter(is_uid_lenient, _texts(answer, "SOPClassesInStudy"))),
    )


def _texts(answer: Dataset, keyword: str) -> tuple[str, ...]:
    """Values of an element; none when it is absent or cannot be read."""
    try:
        value = answer.get(keyword)
    except Exception:  # noqa: BLE001 - pydicom raises many kinds for values that are none; they are then not known
        return ()
    if value is None:
        return ()
    values = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    return tuple(text for one in values if (text := str(one).strip("\0 ")))


def _text(answer: Dataset, keyword: str) -> str:
    return next(iter(_texts(answer, keyword)), "")


def _no_answer(why: str) -> Unavailable:
    return Unavailable("priors.no-answer", f"The archive that is asked for priors does not answer: {why}")
