"""Networks ready to run: one ONNX file, OpenVINO on x86 processors and ONNX Runtime on GPUs and elsewhere."""

from polyclinic.edges.inference.fake import FakeModel, FakeModelShelf
from polyclinic.edges.inference.shelf import Engine, ModelShelf

__all__ = ["Engine", "FakeModel", "FakeModelShelf", "ModelShelf"]
