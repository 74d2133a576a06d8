"""A model on OpenVINO: the faster engine on x86 processors."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

import numpy as np
import numpy.typing as npt
import openvino

from polyclinic.edges.inference.signature import Arrays, Shape, Signature, run_in_batches


class OpenVinoModel:
    """Port `polyclinic.agentkit.case.Model`; one request at a time, in full float32.

    Parameters
    ----------
    onnx
        Bytes of a self-contained ONNX file.
    threads
        Processor threads of one run.
    """

    def __init__(self, onnx: bytes, threads: int) -> None:
        core = openvino.Core()
        # Some processors would calculate in bfloat16 unless told otherwise, and findings would differ by machine.
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "EXECUTION_MODE_HINT": "ACCURACY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }
        self._compiled = core.compile_model(core.read_model(onnx), "CPU", settings)
        self._request = self._compiled.create_infer_request()
        self._lock = Lock()
        self._signature = Signature(inputs={port.any_name: _shape(port) for port in self._compiled.inputs})
        self._outputs = [port.any_name for port in self._compiled.outputs]

    def run(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        """See `polyclinic.agentkit.case.Model.run`.

        Raises
        ------
        polyclinic.core.errors.Rejected
            ``inference.input`` when an input's name, type or shape is not the model's.
        """
        return run_in_batches(self._signature, inputs, self._call)

    def _call(self, arrays: Arrays) -> Arrays:
        with self._lock:
            self._request.infer(arrays)
            # The request reuses its buffers, so what leaves here is a copy.
            return {name: np.array(self._request.get_tensor(name).data, np.float32) for name in self._outputs}


def _shape(port: openvino.ConstOutput) -> Shape:
    return tuple(None if axis.is_dynamic else axis.get_length() for axis in port.get_partial_shape())
