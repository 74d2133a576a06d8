"""Every setting of the platform. Each is an environment variable ``POLYCLINIC_NAME``; docs/settings.md lists them."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from polyclinic.core.errors import Rejected

_SOURCE_ROOT = Path(__file__).resolve().parents[3]
_RECEIVER = re.compile(r"(?:[^@:\s\[\]]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}")
_DESTINATION = re.compile(r"[^@\\\s]{1,16}@[^@:\s]+:\d{1,5}")

Names = Annotated[tuple[str, ...], NoDecode]
"""Several values in one variable, separated by commas, or a JSON array."""


class Settings(BaseSettings):
    """What can be set, with its default. Everything the platform keeps lies under `data`."""

    model_config = SettingsConfigDict(env_prefix="POLYCLINIC_", extra="ignore", frozen=True)

    data: Path = Field(default=Path("data"), description="Folder of everything the platform keeps")
    database: str = Field(default="", description="Database URL; empty means an SQLite file in the data folder")
    journeys_database: str = Field(
        default="", description="Database URL of the durable journeys; empty means an SQLite file of their own"
    )
    objects: str = Field(
        default="",
        description="Folder or URL (s3://bucket/prefix) of agents' outcomes; empty means `objects` in `data`",
    )
    web_host: str = Field(default="127.0.0.1", description="Address the web server listens on")
    web_port: int = Field(default=8080, ge=0, le=65535, description="Port of the web server; 0 takes a free one")
    page: Path = Field(default=_SOURCE_ROOT / "web" / "dist", description="Folder of the built web page")
    dicom_ae_title: str = Field(
        default="POLYCLINIC", pattern=r"^[^\\\s](?:[^\\]{0,14}[^\\\s])?$", description="AE title of the DICOM node"
    )
    dicom_host: str = Field(default="127.0.0.1", description="Address the DICOM node listens on")
    dicom_port: int = Field(default=11112, ge=0, le=65535, description="Port of the DICOM node; 0 takes a free one")
    dicom_peers: Names = Field(
        default=(), description="AE titles that may connect to the DICOM node from anywhere and use every service"
    )
    dicom_peers_file: str = Field(
        default="", description="TOML file of DICOM peers with address, networks, services and certificates"
    )
    dicom_open: bool = Field(
        default=False,
        description="Let every DICOM peer in when none is named; so it is too in the demo, and listening on loopback",
    )
    dicom_check_called_ae_title: bool = Field(
        default=False, description="Reject associations that call another AE title than that of the DICOM node"
    )
    dicom_plain: bool = Field(default=True, description="Listen for DICOM without TLS")
    dicom_tls_port: int = Field(
        default=2762, ge=0, le=65535, description="Port for DICOM over TLS, when there is a certificate"
    )
    dicom_tls_certificate: str = Field(
        default="", description="PEM file of the DICOM node's certificate; empty means no TLS"
    )
    dicom_tls_key: str = Field(
        default="", description="PEM file of the certificate's key; empty when it is in the same file"
    )
    dicom_tls_authorities: str = Field(
        default="", description="PEM file of who signs the peers' certificates; empty asks clients for none"
    )
    settle_quiet_s: float = Field(
        default=30.0, ge=0, description="Seconds without a new image after which a study counts as complete"
    )
    settle_limit_s: float = Field(
        default=600.0, gt=0, description="The same while an association that sent to the study stays open"
    )
    workers: int = Field(default=1, ge=0, le=64, description="Worker processes that `serve` starts; 0 for none")
    worker_queues: Names = Field(default=("cpu",), description="Queues a worker takes runs from")
    worker_lease_s: float = Field(
        default=15.0, gt=0, description="Seconds after which a run of a silent worker may be taken by another"
    )
    destinations: Names = Field(default=(), description="DICOM peers that get signed objects, as AE@host:port")
    move_destinations: Names = Field(
        default=(), description="DICOM peers that C-MOVE may send to, as AE@host:port, besides those destinations"
    )
    routing: Path | None = Field(
        default=None, description="File of destinations and routing rules (docs/routing.md); none routes nothing"
    )
    priors_from: Names = Field(
        default=(), description="DICOM destinations of that file that are asked for priors of each new study"
    )
    patient_id_issuer: str = Field(
        default="", description="Issuer (assigning authority) of the site's own patient identifiers"
    )
    public_url: str = Field(default="", description="Address under which people open the page, for links in results")
    hl7_host: str = Field(default="127.0.0.1", description="Address the HL7 listener listens on")
    hl7_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port of the HL7 listener (MLLP); 0 takes a free one, none means none"
    )
    hl7_peers: Names = Field(default=(), description="Addresses or networks that may send HL7; empty lets everybody")
    hl7_charset: str = Field(
        default="UNICODE UTF-8", description="Character set (HL7 table 0211) of messages that name none"
    )
    hl7_limit_mb: int = Field(default=4, gt=0, le=100, description="Longest HL7 message in MB")
    hl7_tls_certificate: str = Field(default="", description="PEM file of the HL7 certificate; empty means no TLS")
    hl7_tls_key: str = Field(default="", description="PEM file of its key; empty when it is in the same file")
    hl7_tls_authorities: str = Field(
        default="", description="PEM file of who signs the senders' certificates; empty asks them for none"
    )
    hl7_results_to: Names = Field(default=(), description="Receivers of results (ORU), as host:port")
    hl7_results_tls_authorities: str = Field(
        default="", description="PEM file of who signs those receivers' certificates; empty sends without TLS"
    )
    demo: bool = Field(
        default=False, description="Sign a demo radiologist in by itself; only when listening on loopback"
    )
    models: Path = Field(default=_SOURCE_ROOT / "models", description="Folder of model weights")
    scenarios: Path = Field(default=_SOURCE_ROOT / "scenarios", description="Folder of clinical scenarios")
    agents: Names = Field(default=(), description="Ids of the installed agents to use; empty means all")
    agents_extra: Names = Field(
        default=(), description="Agent packages beside the installed ones, by import name; for development"
    )
    session_hours: float = Field(default=12.0, gt=0, description="Hours after which a person signs in again")
    session_secure: bool = Field(
        default=False, description="Send the session cookie over HTTPS only; set it behind a TLS proxy"
    )
    free_space_min_mb: int = Field(
        default=500, ge=0, description="With less free space in MB than this, no images are taken; 0 for no limit"
    )
    retention: Path | None = Field(
        default=None, description="File of retention rules and legal holds (docs/operations/retention.md)"
    )
    upload_limit_mb: int = Field(default=2048, gt=0, description="Largest request body of DICOMweb uploads in MB")
    audit_anchor_s: float = Field(
        default=300.0, gt=0, description="Seconds after which a grown audit ledger is anchored outside its database"
    )
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least severe level that is logged"
    )

    @field_validator(
        "dicom_peers",
        "worker_queues",
        "destinations",
        "move_destinations",
        "priors_from",
        "hl7_peers",
        "hl7_results_to",
        "agents",
        "agents_extra",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.startswith("["):
            return tuple(json.loads(value))
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("destinations", "move_destinations")
    @classmethod
    def _are_destinations(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for destination in value:
            if not _DESTINATION.fullmatch(destination):
                raise ValueError(f"{destination!r} is not AE@host:port")
        return value

    @field_validator("hl7_results_to")
    @classmethod
    def _are_receivers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for receiver in value:
            if not _RECEIVER.fullmatch(receiver):
                raise ValueError(f"{receiver!r} is not host:port")
        return value

    @field_validator("hl7_peers")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for peer in value:
            ipaddress.ip_network(peer, strict=False)
        return value

    @model_validator(mode="after")
    def _demo_on_loopback_only(self) -> Self:
        if self.demo and not is_loopback(self.web_host):
            raise ValueError("demo signs people in by itself, so web_host must be a loopback address")
        return self

    @property
    def database_url(self) -> str:
        """URL of the main database."""
        return self.database or f"sqlite:///{(self.data / 'polyclinic.sqlite').resolve()}"

    @property
    def journeys_url(self) -> str:
        """URL of the journeys' database: beside the main one, but a file of its own on SQLite."""
        if self.journeys_database:
            return self.journeys_database
        if self.database and not self.database.startswith("sqlite"):
            return self.database
        return f"sqlite:///{(self.data / 'journeys.sqlite').resolve()}"

    @property
    def objects_place(self) -> str:
        """Folder or URL of agents' outcomes."""
        return self.objects or str(self.data / "objects")

    def session_secret(self) -> bytes:
        """Key of the tokens against request forgery; made on first use, readable by the owner only."""
        path = self.data / "session.key"
        try:
            return path.read_bytes()
        except FileNotFoundError:
            pass
        self.data.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_bytes()
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
        return path.read_bytes()

    def environment(self) -> dict[str, str]:
        """The variables that give another process these settings."""
        values = self.model_dump(mode="json")
        return {
            f"POLYCLINIC_{name.upper()}": ",".join(value) if isinstance(value, list) else _text(value)
            for name, value in values.items()
            if value is not None
        }


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def is_loopback(host: str) -> bool:
    """Whether the address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Settings from the environment, `overrides` first.

    Raises
    ------
    Rejected
        ``settings.invalid`` naming the first wrong variable.
    """
    try:
        return Settings(**dict(overrides or {}))  # type: ignore[arg-type]  # pydantic checks the values itself
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "demo"
        raise Rejected("settings.invalid", f"POLYCLINIC_{name.upper()}: {first['msg']}") from error
