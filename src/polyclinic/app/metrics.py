"""Counters for Prometheus, read from the tables when they are asked for; nothing about patients."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Column, Engine, Table, func, select

from polyclinic.departments.archive import schema
from polyclinic.departments.reading.tables import agent_run, agreement, delivery, study_status


class HouseCollector(Collector):
    """Gauges of the house."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See prometheus_client."""
        yield self._by_state("polyclinic_studies", "Studies by state", study_status)
        yield self._by_state("polyclinic_agent_runs", "Agent runs by state", agent_run)
        yield self._by_state("polyclinic_deliveries", "Deliveries by state", delivery)
        yield self._agreement()
        with self._engine.connect() as connection:
            counted = connection.execute(
                select(func.sum(schema.study.c.instance_count), func.sum(schema.study.c.kept_aside_count))
            ).one()
        for name, text, value in zip(
            ("polyclinic_instances", "polyclinic_instances_kept_aside"),
            ("Instances in the archive", "Instances with a known UID but other bytes"),
            counted,
            strict=True,
        ):
            yield GaugeMetricFamily(name, text, value=float(value or 0))

    def _by_state(self, name: str, text: str, table: Table) -> GaugeMetricFamily:
        state: Column[str] = table.c.state
        gauge = GaugeMetricFamily(name, text, labels=["state"])
        with self._engine.connect() as connection:
            for value, count in connection.execute(select(state, func.count()).group_by(state)):
                gauge.add_metric([value], count)
        return gauge

    def _agreement(self) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily(
            "polyclinic_agreement",
            "Proposed findings by what the signing reader made of them",
            labels=["agent", "version", "verdict"],
        )
        verdicts = (agreement.c.accepted, agreement.c.edited, agreement.c.rejected)
        query = select(agreement.c.agent_id, agreement.c.agent_version, *map(func.sum, verdicts)).group_by(
            agreement.c.agent_id, agreement.c.agent_version
        )
        with self._engine.connect() as connection:
            for agent, version, *counts in connection.execute(query):
                for verdict, count in zip(("accepted", "edited", "rejected"), counts, strict=True):
                    gauge.add_metric([agent, version, verdict], float(count))
        return gauge


def house_metrics(engine: Engine) -> CollectorRegistry:
    """A registry of its own, so that two houses in one process do not mix."""
    registry = CollectorRegistry()
    registry.register(HouseCollector(engine))
    return registry
