"""Builds the DICOM node from the settings: who may connect, with what, and what the services work on."""

from __future__ import annotations

import ipaddress
import logging
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from polyclinic.app.sending import parse_peer
from polyclinic.app.settings import Settings, is_loopback
from polyclinic.core.errors import Rejected
from polyclinic.departments.access.audit_window import Recorder
from polyclinic.departments.archive.store import SqlArchive
from polyclinic.departments.records.ports import Record
from polyclinic.edges.dimse.association import Policy, SourceOf
from polyclinic.edges.dimse.commitment_store import Commitments
from polyclinic.edges.dimse.node import DimseNode
from polyclinic.edges.dimse.peers import KnownPeer, Peer, anybody
from polyclinic.edges.dimse.sources import Sources
from polyclinic.edges.dimse.syntaxes import Service
from polyclinic.edges.dimse.tls import TlsSettings

log = logging.getLogger(__name__)

_KEYS = {"ae_title", "address", "networks", "services", "character_set", "certificates", "tls", "tls_check_host"}
_SHA256 = re.compile(r"[0-9a-f]{64}")


def build_dicom_node(
    settings: Settings,
    archive: SqlArchive,
    record: Record,
    engine: Engine,
    *,
    source_of: SourceOf | None = None,
    recorder: Recorder | None = None,
) -> DimseNode:
    """The node as the settings want it; it does not listen yet.

    Parameters
    ----------
    source_of
        See `Policy.source_of`.
    recorder
        Where what peers do is noted.

    Raises
    ------
    Rejected
        ``settings.invalid`` naming what is wrong in the peers' file, ``dimse.bad-certificate``.
    """
    policy = replace(dicom_policy(settings), recorder=recorder)
    if source_of is not None:
        policy = replace(policy, source_of=source_of)
    if policy.known_peers is None and not is_loopback(settings.dicom_host):
        log.warning("every DICOM peer may use every service: POLYCLINIC_DICOM_OPEN or the demo says so")
    if policy.known_peers == {}:
        log.warning(
            "no DICOM peer may connect: name them in POLYCLINIC_DICOM_PEERS or POLYCLINIC_DICOM_PEERS_FILE, "
            "or let everybody in with POLYCLINIC_DICOM_OPEN"
        )
    sources = Sources(archive=archive, orders=record, patients=record, commitments=Commitments(engine))
    return DimseNode(
        sources,
        host=settings.dicom_host,
        port=settings.dicom_port if settings.dicom_plain else None,
        policy=policy,
        tls=tls_settings(settings) if settings.dicom_tls_certificate else None,
        tls_port=settings.dicom_tls_port,
    )


def dicom_policy(settings: Settings) -> Policy:
    """Who may connect to the DICOM node, and where it may be told to send."""
    movable = {peer.ae_title: peer for peer in map(parse_peer, (*settings.destinations, *settings.move_destinations))}
    known = {**anybody(settings.dicom_peers), **_peers_of(settings)}
    addresses = {ae_title: peer.address for ae_title, peer in known.items() if peer.address is not None}
    return Policy(
        ae_title=settings.dicom_ae_title,
        known_peers=known if known or not _is_open(settings) else None,
        check_called_ae_title=settings.dicom_check_called_ae_title,
        move_destinations={**addresses, **movable},
    )


def _is_open(settings: Settings) -> bool:
    """Without named peers everybody is let in only where that was said, or where nobody but this machine comes."""
    return settings.demo or settings.dicom_open or is_loopback(settings.dicom_host)


def tls_settings(settings: Settings) -> TlsSettings:
    """Our certificate, and who signs those of the peers."""
    return TlsSettings(
        certificate=_path(settings.dicom_tls_certificate),
        key=_path(settings.dicom_tls_key),
        authorities=_path(settings.dicom_tls_authorities),
    )


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _peers_of(settings: Settings) -> dict[str, KnownPeer]:
    if not settings.dicom_peers_file:
        return {}
    try:
        content = tomllib.loads(Path(settings.dicom_peers_file).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong("cannot be read as TOML") from error
    peers = content.get("peer", [])
    if not isinstance(peers, list) or set(content) - {"peer"}:
        raise _wrong("has [[peer]] tables only")
    known: dict[str, KnownPeer] = {}
    for number, table in enumerate(peers, start=1):
        peer = read_peer(table, number, tls_settings(settings))
        if peer.ae_title in known:
            raise _wrong(f"peer {number}: its AE title is given twice")
        known[peer.ae_title] = peer
    return known


def read_peer(table: Mapping[str, Any], number: int, tls: TlsSettings) -> KnownPeer:
    """One ``[[peer]]`` table.

    Parameters
    ----------
    tls
        Certificates that the node uses when the peer is to be called over TLS.

    Raises
    ------
    Rejected
        ``settings.invalid``.
    """
    if unknown := set(table) - _KEYS:
        raise _wrong(f"peer {number}: there is no key {min(unknown)}")
    ae_title = table.get("ae_title")
    if not isinstance(ae_title, str) or not re.fullmatch(r"[^\\\s](?:[^\\]{0,14}[^\\\s])?", ae_title):
        raise _wrong(f"peer {number}: ae_title must be an AE title of 1 to 16 characters")
    try:
        certificates = frozenset(text.replace(":", "").lower() for text in table.get("certificates", ()))
        if not all(map(_SHA256.fullmatch, certificates)):
            raise ValueError("a certificate is named by its SHA-256 in hexadecimal")
        return KnownPeer(
            ae_title=ae_title,
            networks=tuple(ipaddress.ip_network(text) for text in table.get("networks", ())),
            services=frozenset(map(Service, table.get("services", tuple(Service)))),
            address=_address(ae_title, table, tls),
            character_sets=tuple(table["character_set"].split("\\")) if table.get("character_set") else (),
            certificates=certificates,
            needs_tls=bool(table.get("tls", False)),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise _wrong(f"peer {number}: {error}") from error


def _address(ae_title: str, table: Mapping[str, Any], tls: TlsSettings) -> Peer | None:
    address = table.get("address")
    if address is None:
        return None
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("address must be host:port")
    if not table.get("tls", False):
        return Peer(ae_title=ae_title, host=host.strip("[]"), port=int(port))
    checked = TlsSettings(
        certificate=tls.certificate,
        key=tls.key,
        authorities=tls.authorities,
        check_host=bool(table.get("tls_check_host", True)),
    )
    return Peer(ae_title=ae_title, host=host.strip("[]"), port=int(port), tls=checked)


def _wrong(what: str) -> Rejected:
    return Rejected("settings.invalid", f"POLYCLINIC_DICOM_PEERS_FILE: {what}; see docs/dicom-node.md")
