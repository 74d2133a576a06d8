"""What leaves the reading room after signing: derived objects, and their deliveries until each has arrived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Engine, and_, func, select, update

from polyclinic.core.errors import Conflict, NotFound
from polyclinic.core.ids import stable_id
from polyclinic.core.plain import from_plain
from polyclinic.departments.reading.contracts import (
    Agreement,
    Delivery,
    DeliveryState,
    DerivedObject,
    MessageKind,
    ObjectKind,
)
from polyclinic.departments.reading.tables import agreement, delivery, derived_object, dump, insert_new

MAX_ATTEMPTS = 12
_FIRST_RETRY_S = 2.0
_LONGEST_RETRY_S = 600.0


def retry_after_s(attempts: int) -> float:
    """Seconds until the next attempt after `attempts` failed ones: doubling, at most ten minutes."""
    return float(min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2 ** (attempts - 1)))


class Outbox:
    """Every method may be called from any thread and any process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def record(
        self,
        study_instance_uid: str,
        revision: int,
        objects: Sequence[DerivedObject],
        destinations: Sequence[str],
        *,
        now: float,
        results_to: Sequence[str] = (),
    ) -> None:
        """Keep which objects were made and queue each for every destination, once however often called.

        `results_to` are told the result itself, as a message.
        """
        made = [
            {
                "sop_instance_uid": item.sop_instance_uid,
                "study_instance_uid": study_instance_uid,
                "revision": revision,
                "object": dump(item),
            }
            for item in objects
        ]
        rows = [
            {
                "key": stable_id("delivery", item.sop_instance_uid, destination),
                "study_instance_uid": study_instance_uid,
                "revision": revision,
                "destination": destination,
                "kind": item.kind,
                "sop_instance_uid": item.sop_instance_uid,
                "state": DeliveryState.QUEUED,
                "due_at": now,
            }
            for destination in destinations
            for item in objects
        ]
        rows += [
            {
                "key": stable_id("result", study_instance_uid, revision, receiver),
                "study_instance_uid": study_instance_uid,
                "revision": revision,
                "destination": receiver,
                "kind": MessageKind.RESULT,
                "sop_instance_uid": "",
                "state": DeliveryState.QUEUED,
                "due_at": now,
            }
            for receiver in results_to
        ]
        with self._engine.begin() as connection:
            insert_new(connection, derived_object, made)
            insert_new(connection, delivery, rows)

    def objects(self, study_instance_uid: str) -> tuple[DerivedObject, ...]:
        """The objects of all signed revisions, oldest revision first."""
        query = (
            select(derived_object.c.object)
            .where(derived_object.c.study_instance_uid == study_instance_uid)
            .order_by(derived_object.c.revision)
        )
        with self._engine.connect() as connection:
            texts = connection.execute(query).scalars().all()
        return tuple(from_plain(DerivedObject, orjson.loads(text)) for text in texts)

    def deliveries(self, study_instance_uid: str) -> tuple[Delivery, ...]:
        """By destination and kind."""
        query = (
            select(delivery)
            .where(delivery.c.study_instance_uid == study_instance_uid)
            .order_by(delivery.c.revision, delivery.c.destination, delivery.c.kind)
        )
        return self._read(query)

    def due(self, *, now: float, to: str = "", not_to: Sequence[str] = (), limit: int = 32) -> tuple[Delivery, ...]:
        """Deliveries to try now, longest waiting first: to one destination, or to all but some."""
        where = [delivery.c.state == DeliveryState.QUEUED, delivery.c.due_at <= now]
        if to:
            where.append(delivery.c.destination == to)
        if not_to:
            where.append(delivery.c.destination.not_in(list(not_to)))
        query = select(delivery).where(*where).order_by(delivery.c.due_at, delivery.c.key).limit(limit)
        return self._read(query)

    def sent(self, key: str) -> None:
        """The destination has it."""
        with self._engine.begin() as connection:
            connection.execute(
                update(delivery)
                .where(delivery.c.key == key)
                .values(state=DeliveryState.SENT, attempts=delivery.c.attempts + 1, reason="")
            )

    def not_sent(self, item: Delivery, reason: str, *, again: bool, now: float) -> bool:
        """It did not arrive: try later, or give up after `MAX_ATTEMPTS` or when trying again is useless.

        Returns whether it will be tried again.
        """
        attempts = item.attempts + 1
        values: dict[str, Any] = {"attempts": attempts, "reason": reason}
        again = again and attempts < MAX_ATTEMPTS
        if again:
            values["due_at"] = now + retry_after_s(attempts)
        else:
            values["state"] = DeliveryState.FAILED
        with self._engine.begin() as connection:
            connection.execute(update(delivery).where(delivery.c.key == item.key).values(**values))
        return again

    def retry(self, study_instance_uid: str, key: str, *, now: float) -> Delivery:
        """Queue a failed delivery once more, with all its attempts; repeating it changes nothing.

        Raises
        ------
        NotFound
            ``reading.no-delivery``.
        Conflict
            ``reading.delivery-not-failed`` when it has arrived.
        """
        of_study = and_(delivery.c.key == key, delivery.c.study_instance_uid == study_instance_uid)
        with self._engine.begin() as connection:
            connection.execute(
                update(delivery)
                .where(of_study, delivery.c.state == DeliveryState.FAILED)
                .values(state=DeliveryState.QUEUED, attempts=0, reason="", due_at=now)
            )
        found = self._read(select(delivery).where(of_study))
        if not found:
            raise NotFound("reading.no-delivery", "There is no such delivery; read the study's deliveries again")
        if found[0].state is DeliveryState.SENT:
            raise Conflict("reading.delivery-not-failed", "This delivery has arrived; read the deliveries again")
        return found[0]

    def outstanding(self, study_instance_uid: str, revision: int) -> int:
        """How many deliveries of the revision have not arrived, failed ones included."""
        query = (
            select(func.count())
            .select_from(delivery)
            .where(
                delivery.c.study_instance_uid == study_instance_uid,
                delivery.c.revision == revision,
                delivery.c.state != DeliveryState.SENT,
            )
        )
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def agreements(self) -> tuple[Agreement, ...]:
        """Every counted agreement between proposals and signatures."""
        columns = [agreement.c[name] for name in Agreement.__dataclass_fields__]
        with self._engine.connect() as connection:
            rows = connection.execute(select(*columns).order_by(agreement.c.signed_at)).all()
        return tuple(Agreement(**row._mapping) for row in rows)

    def _read(self, query: Any) -> tuple[Delivery, ...]:
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return tuple(_delivery(row._mapping) for row in rows)


def _delivery(row: Any) -> Delivery:
    return Delivery(
        key=row["key"],
        study_instance_uid=row["study_instance_uid"],
        revision=row["revision"],
        destination=row["destination"],
        kind=MessageKind(row["kind"]) if row["kind"] in set(MessageKind) else ObjectKind(row["kind"]),
        sop_instance_uid=row["sop_instance_uid"],
        state=DeliveryState(row["state"]),
        attempts=row["attempts"],
        reason=row["reason"],
    )
