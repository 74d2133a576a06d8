"""The DICOM nodes that are known here: where they are, what they may do, how they prove who they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

from polyclinic.edges.dimse.syntaxes import Service
from polyclinic.edges.dimse.tls import TlsSettings

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A DICOM node elsewhere, as we call it."""

    ae_title: str
    host: str
    port: int
    tls: TlsSettings | None = None
    """How to speak TLS with it; None speaks without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPeer:
    """A DICOM node that may call us."""

    ae_title: str
    networks: tuple[Network, ...] = ()
    """Where it may call from; empty means anywhere."""
    services: frozenset[Service] = frozenset(Service)
    address: Peer | None = None
    """Where it listens itself, for results of storage commitment."""
    character_sets: tuple[str, ...] = ()
    """Specific Character Set of answers with more than ASCII when its request names none that has all of it."""
    certificates: frozenset[str] = field(default_factory=frozenset)
    """SHA-256 of the client certificates it may show, as lower case hexadecimal; empty means any trusted one."""
    needs_tls: bool = False
    """Whether it may call over TLS only."""

    def may_call_from(self, host: str) -> bool:
        """Whether the address is one of its own."""
        if not self.networks:
            return True
        try:
            here = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(here, "ipv4_mapped", None)  # an IPv4 caller of an IPv6 listener
        return any(one in network for one in filter(None, (here, mapped)) for network in self.networks)

    def is_proven(self, certificate_sha256: str | None, *, secure: bool) -> bool:
        """Whether its connection is the kind it must use; `certificate_sha256` is None when it showed none."""
        if self.certificates:
            return certificate_sha256 in self.certificates
        return secure or not self.needs_tls


def anybody(ae_titles: Iterable[str]) -> Mapping[str, KnownPeer]:
    """Peers of which only the AE title is known: any address, every service."""
    return {ae_title: KnownPeer(ae_title=ae_title) for ae_title in ae_titles}


def allowed_services(known: KnownPeer | None, offered: Collection[Service]) -> frozenset[Service]:
    """What an association may use: everything offered to a peer that nothing is said about; C-ECHO always."""
    if known is None:
        return frozenset(offered)
    return frozenset(offered) & (known.services | {Service.VERIFICATION})
