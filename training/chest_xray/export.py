"""Write a classifier as ONNX with half-precision weights and check that it computes the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from training.chest_xray.network import CAM, INPUT, PROBABILITY, Classifier

TOLERANCE = 0.01
"""Largest difference of a probability that half-precision weights may make."""
_LARGE = 1024


def write_onnx(model: Classifier, side: int, path: Path) -> str:
    """Export, shrink, compare with torch; returns the sha256 of the file.

    Weights are stored as float16 and cast to float32 when the file is loaded, so results are float32 arithmetic.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    example = torch.rand(4, 1, side, side, generator=torch.Generator().manual_seed(0))
    model.eval()
    torch.onnx.export(
        model,
        (example,),
        str(path),
        input_names=[INPUT],
        output_names=[PROBABILITY, CAM],
        dynamic_axes={INPUT: {0: "n"}, PROBABILITY: {0: "n"}, CAM: {0: "n"}},
        opset_version=17,
        dynamo=False,
    )
    shrunk = onnx.load(str(path))
    _halve(shrunk)
    onnx.checker.check_model(shrunk)
    onnx.save(shrunk, str(path))
    _compare(model, example, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _halve(model: onnx.ModelProto) -> None:
    graph = model.graph
    casts = []
    for initializer in graph.initializer:
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.size < _LARGE:
            continue
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + "_half"))
        casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT, name=name + "_cast"))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _compare(model: Classifier, example: torch.Tensor, path: Path) -> None:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        want, want_map = model(example)
    got, got_map = session.run([PROBABILITY, CAM], {INPUT: example.numpy()})
    if np.abs(got - want.numpy()).max() > TOLERANCE or got_map.shape != tuple(want_map.shape):
        raise ValueError("the exported model does not compute what the trained one does")
