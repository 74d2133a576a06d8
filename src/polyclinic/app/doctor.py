"""`polyclinic doctor`: what this installation has, what it misses and what to do about it."""

from __future__ import annotations

import platform
import shutil
import socket
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module, metadata
from pathlib import Path

from polyclinic.agentkit.manifest import InstalledAgent, installed_agents
from polyclinic.core.errors import PolyclinicError

_NEEDED_SPACE_BYTES = 2 * 1024**3


class Health(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """Works, but something will not."""
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at; `advice` says what to do when it is not ok."""

    name: str
    health: Health
    detail: str
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What to check against: where data go, where models and page lie, which addresses will be bound."""

    data_folder: Path
    models_folder: Path
    page_folder: Path
    addresses: tuple[tuple[str, str, int], ...]
    """Name, host and port of each listener."""


def examine(surroundings: Surroundings) -> tuple[Check, ...]:
    """Run every check; none changes anything but a probe file that is removed again."""
    return (
        _python(),
        _decoders(),
        _inference(),
        *_agents(surroundings.models_folder),
        _data_folder(surroundings.data_folder),
        _page(surroundings.page_folder),
        *(_address(*address) for address in surroundings.addresses),
        _tool("storescu", "Debian package dcmtk", "tests against real DICOM peers"),
        _tool("chromium", "Debian package chromium", "browser tests"),
    )


def _python() -> Check:
    return Check(name="Python", health=Health.OK, detail=platform.python_version())


def _decoders() -> Check:
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415 - slow import, only needed here
    from pydicom.uid import (  # noqa: PLC0415
        HTJ2KLossless,
        JPEG2000Lossless,
        JPEGBaseline8Bit,
        JPEGLosslessSV1,
        JPEGLSLossless,
        RLELossless,
    )

    wanted = [JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless, RLELossless]
    missing = [uid.name for uid in wanted if not get_decoder(uid).is_available]
    if missing:
        return Check(
            name="Image decoders",
            health=Health.PROBLEM,
            detail="missing: " + ", ".join(missing),
            advice="Install again with: pip install -c constraints.txt -e .",
        )
    return Check(name="Image decoders", health=Health.OK, detail="JPEG family, JPEG-LS, JPEG 2000, HTJ2K, RLE")


def _inference() -> Check:
    for module, distribution in (("openvino", "openvino"), ("onnxruntime", "onnxruntime")):
        try:
            import_module(module)
        except ImportError:
            continue
        return Check(name="Inference", health=Health.OK, detail=f"{distribution} {metadata.version(distribution)}")
    return Check(
        name="Inference",
        health=Health.PROBLEM,
        detail="neither OpenVINO nor ONNX Runtime can be imported",
        advice="Install again with: pip install -c constraints.txt -e .",
    )


def _agents(models_folder: Path) -> tuple[Check, ...]:
    try:
        agents = installed_agents()
    except PolyclinicError as error:
        return (Check(name="Agents", health=Health.PROBLEM, detail=error.message, advice="Mend its manifest"),)
    if not agents:
        return (Check(name="Agents", health=Health.WARNING, detail="none installed", advice="pip install an agent"),)
    return tuple(_agent(agent, models_folder) for _, agent in sorted(agents.items()))


def _agent(agent: InstalledAgent, models_folder: Path) -> Check:
    import hashlib  # noqa: PLC0415

    manifest = agent.manifest
    name = f"Agent {manifest.id}"
    for weights in manifest.weights.values():
        path = models_folder / weights.file
        if not path.is_file():
            return Check(name=name, health=Health.PROBLEM, detail=f"{path} is missing", advice="Restore the model file")
        if hashlib.sha256(path.read_bytes()).hexdigest() != weights.sha256:
            return Check(
                name=name, health=Health.PROBLEM, detail=f"{path} has another hash", advice="Restore the model file"
            )
    return Check(name=name, health=Health.OK, detail=f"{manifest.version}, stage {manifest.stage}")


def _data_folder(folder: Path) -> Check:
    name = "Data folder"
    probe = folder if folder.exists() else next(p for p in folder.parents if p.exists())
    try:
        with tempfile.TemporaryFile(dir=probe) as file:
            file.write(b"probe")
    except OSError as error:
        return Check(
            name=name,
            health=Health.PROBLEM,
            detail=f"{folder}: {error.strerror}",
            advice="Give this user write access, or set POLYCLINIC_DATA to another folder",
        )
    free = shutil.disk_usage(probe).free
    if free < _NEEDED_SPACE_BYTES:
        return Check(
            name=name,
            health=Health.WARNING,
            detail=f"{folder}: {free / 1024**3:.1f} GiB free",
            advice="Make room: a thin chest CT needs 0.2 GiB",
        )
    return Check(name=name, health=Health.OK, detail=f"{folder}, {free / 1024**3:.0f} GiB free")


def _page(folder: Path) -> Check:
    if (folder / "index.html").is_file():
        return Check(name="Page", health=Health.OK, detail=str(folder))
    return Check(name="Page", health=Health.WARNING, detail="not built", advice="Run: make web")


def _address(name: str, host: str, port: int) -> Check:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Check(
                name=name,
                health=Health.WARNING,
                detail=f"{host}:{port}: {error.strerror}",
                advice="Polyclinic may be running already; otherwise choose another port",
            )
    return Check(name=name, health=Health.OK, detail=f"{host}:{port} is free")


def _tool(command: str, package: str, purpose: str) -> Check:
    found = shutil.which(command)
    if found:
        return Check(name=command, health=Health.OK, detail=found)
    return Check(name=command, health=Health.WARNING, detail=f"not found; {purpose} are left out", advice=package)
