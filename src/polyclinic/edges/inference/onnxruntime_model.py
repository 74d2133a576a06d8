"""A model on ONNX Runtime: GPUs, and processors that OpenVINO does not know."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnxruntime

from polyclinic.edges.inference.signature import Arrays, Signature, run_in_batches

_QUIET = 3
_PROVIDERS = ("CUDAExecutionProvider", "ROCMExecutionProvider", "CPUExecutionProvider")


class OnnxRuntimeModel:
    """Port `polyclinic.agentkit.case.Model`; takes a GPU where the installed runtime offers one.

    Parameters
    ----------
    onnx
        Bytes of a self-contained ONNX file.
    threads
        Processor threads of one run.
    """

    def __init__(self, onnx: bytes, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = _QUIET
        available = onnxruntime.get_available_providers()
        providers = [name for name in _PROVIDERS if name in available]
        self._session = onnxruntime.InferenceSession(onnx, options, providers=providers)
        self._signature = Signature(
            inputs={
                port.name: tuple(axis if isinstance(axis, int) else None for axis in port.shape)
                for port in self._session.get_inputs()
            }
        )
        self._outputs = [port.name for port in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        """See `polyclinic.agentkit.case.Model.run`.

        Raises
        ------
        polyclinic.core.errors.Rejected
            ``inference.input`` when an input's name, type or shape is not the model's.
        """
        return run_in_batches(self._signature, inputs, self._call)

    def _call(self, arrays: Arrays) -> Arrays:
        answers = self._session.run(self._outputs, arrays)
        return {name: np.asarray(value, np.float32) for name, value in zip(self._outputs, answers, strict=True)}
