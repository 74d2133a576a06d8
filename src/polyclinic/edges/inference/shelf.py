"""The shelf of model files: found by path, proved by hash, loaded once, kept warm."""

from __future__ import annotations

import hashlib
import os
import platform
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from polyclinic.agentkit.case import Model
from polyclinic.agentkit.manifest import Weights
from polyclinic.core.errors import Unavailable


class Engine(StrEnum):
    """What runs an ONNX file."""

    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"


class ModelShelf:
    """Loads the models that manifests list.

    Parameters
    ----------
    folder
        Folder of the weights; `Weights.file` is a path below it.
    threads
        Processor threads of one run; 0 takes every processor this process may use.
    engine
        None chooses: OpenVINO on x86 where it is installed, ONNX Runtime elsewhere.
    """

    def __init__(self, folder: Path, *, threads: int = 0, engine: Engine | None = None) -> None:
        self._folder = folder
        self._threads = threads or _usable_processors()
        self.engine = engine or _best_engine()
        self._warm: dict[str, Model] = {}
        self._lock = Lock()

    def model(self, weights: Weights) -> Model:
        """The model of `weights`, loaded at the first call and kept for the life of the shelf.

        Raises
        ------
        Unavailable
            ``inference.model-missing`` when the file is absent or its hash is not the manifest's;
            ``inference.model-unreadable`` when the engine cannot load it.
        """
        with self._lock:
            if weights.sha256 not in self._warm:
                self._warm[weights.sha256] = _load(self.engine, self._proved_bytes(weights), self._threads)
            return self._warm[weights.sha256]

    def _proved_bytes(self, weights: Weights) -> bytes:
        # The bytes that were hashed are the bytes that are loaded: a file swapped in between changes nothing.
        path = (self._folder / weights.file).resolve()
        if not path.is_relative_to(self._folder.resolve()):
            raise Unavailable("inference.model-missing", "A model file must lie below the models folder")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise Unavailable(
                "inference.model-missing",
                f"The weights {weights.file} are not installed; put them below the models folder",
            ) from error
        if hashlib.sha256(content).hexdigest() != weights.sha256:
            raise Unavailable(
                "inference.model-missing",
                f"The weights {weights.file} are not those the manifest names; install the matching version",
            )
        return content


def _load(engine: Engine, onnx: bytes, threads: int) -> Model:
    # Each engine takes long to import and only one of them is needed.
    try:
        if engine is Engine.OPENVINO:
            from polyclinic.edges.inference.openvino_model import OpenVinoModel  # noqa: PLC0415

            return OpenVinoModel(onnx, threads)
        from polyclinic.edges.inference.onnxruntime_model import OnnxRuntimeModel  # noqa: PLC0415

        return OnnxRuntimeModel(onnx, threads)
    except ImportError as error:
        raise Unavailable(
            "inference.engine-missing", f"{engine.value} is not installed; run polyclinic doctor"
        ) from error
    except Exception as error:  # each engine raises classes of its own, some not public
        raise Unavailable("inference.model-unreadable", f"{engine.value} cannot load the model file") from error


def _best_engine() -> Engine:
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return Engine.OPENVINO if x86 and find_spec("openvino") else Engine.ONNXRUNTIME


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
