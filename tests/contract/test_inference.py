"""The promise of a model shelf, held by both engines and by the fake."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from polyclinic.agentkit.manifest import Weights
from polyclinic.core.errors import Rejected, Unavailable
from polyclinic.edges.inference import Engine, FakeModel, FakeModelShelf, ModelShelf
from polyclinic.edges.inference.signature import ROWS_AT_ONCE

Shelf = ModelShelf | FakeModelShelf


def _field(number: int, value: int | bytes | str) -> bytes:
    """One protobuf field: varint for int, length-delimited for the rest."""
    if isinstance(value, int):
        return bytes([number << 3]) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _tensor_value(name: str) -> bytes:
    axes = _field(1, _field(2, "n")) + _field(1, _field(1, 3))
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, axes)))


def squares_onnx() -> bytes:
    """ONNX of ``square = value * value`` for float32 (n, 3), IR version 8, opset 17."""
    node = _field(1, "value") + _field(1, "value") + _field(2, "square") + _field(4, "Mul")
    graph = _field(1, node) + _field(2, "squares")
    graph += _field(11, _tensor_value("value")) + _field(12, _tensor_value("square"))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 17))


ONNX = squares_onnx()
WEIGHTS = Weights(file="squares/model.onnx", sha256=hashlib.sha256(ONNX).hexdigest())


def _real(engine: Engine) -> Callable[[Path], Shelf]:
    return lambda folder: ModelShelf(folder, threads=1, engine=engine)


def _fake(folder: Path) -> Shelf:
    model = FakeModel({"value": (None, 3)}, lambda arrays: {"square": arrays["value"] ** 2})
    return FakeModelShelf({WEIGHTS.sha256: model} if (folder / WEIGHTS.file).exists() else {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "squares").mkdir()
    (tmp_path / WEIGHTS.file).write_bytes(ONNX)
    return tmp_path


@pytest.fixture(params=[_fake, _real(Engine.OPENVINO), _real(Engine.ONNXRUNTIME)], ids=["fake", *Engine])
def shelf(request: pytest.FixtureRequest, folder: Path) -> Shelf:
    made: Shelf = request.param(folder)
    return made


@pytest.mark.parametrize("rows", [1, 5, ROWS_AT_ONCE, 2 * ROWS_AT_ONCE + 7])
def test_rows_come_back_in_order_whatever_their_number(shelf: Shelf, rows: int) -> None:
    value = np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)
    answer = shelf.model(WEIGHTS).run({"value": value})
    assert answer.keys() == {"square"}
    assert answer["square"].dtype == np.float32
    np.testing.assert_allclose(answer["square"], value**2, rtol=1e-6)


def test_an_answer_is_the_callers_own(shelf: Shelf) -> None:
    model = shelf.model(WEIGHTS)
    first = model.run({"value": np.full((2, 3), 2.0, np.float32)})["square"]
    model.run({"value": np.full((2, 3), 9.0, np.float32)})
    assert (first == 4.0).all()


def test_strided_input_is_read_rightly(shelf: Shelf) -> None:
    value = np.arange(12, dtype=np.float32).reshape(3, 4).T
    np.testing.assert_allclose(shelf.model(WEIGHTS).run({"value": value})["square"], value**2)


def test_a_model_is_loaded_once(shelf: Shelf) -> None:
    assert shelf.model(WEIGHTS) is shelf.model(WEIGHTS)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"other": np.zeros((1, 3), np.float32)},
        {"value": np.zeros((1, 3), np.float32), "more": np.zeros((1, 3), np.float32)},
        {"value": np.zeros((1, 4), np.float32)},
        {"value": np.zeros(3, np.float32)},
        {"value": np.zeros((1, 3), np.float64)},
    ],
    ids=["none", "other name", "too many", "other length", "other rank", "other type"],
)
def test_an_input_that_does_not_fit_is_rejected(shelf: Shelf, inputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(Rejected) as caught:
        shelf.model(WEIGHTS).run(inputs)
    assert caught.value.code == "inference.input"


def test_threads_share_one_model(shelf: Shelf) -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        value = np.full((50, 3), number, np.float32)
        for _ in range(20):
            if not (shelf.model(WEIGHTS).run({"value": value})["square"] == number**2).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_unknown_weights_are_unavailable(shelf: Shelf) -> None:
    with pytest.raises(Unavailable) as caught:
        shelf.model(Weights(file="none/model.onnx", sha256="0" * 64))
    assert caught.value.code == "inference.model-missing"


@pytest.mark.parametrize("engine", list(Engine))
def test_other_bytes_than_the_manifest_names_are_refused(engine: Engine, folder: Path) -> None:
    (folder / WEIGHTS.file).write_bytes(ONNX + b"\x00")
    with pytest.raises(Unavailable) as caught:
        ModelShelf(folder, engine=engine).model(WEIGHTS)
    assert caught.value.code == "inference.model-missing"


@pytest.mark.parametrize("engine", list(Engine))
def test_a_file_that_is_no_model_is_unreadable(engine: Engine, folder: Path) -> None:
    content = b"not a model"
    (folder / "broken.onnx").write_bytes(content)
    with pytest.raises(Unavailable) as caught:
        ModelShelf(folder, engine=engine).model(Weights(file="broken.onnx", sha256=hashlib.sha256(content).hexdigest()))
    assert caught.value.code == "inference.model-unreadable"


def test_a_path_out_of_the_folder_is_refused(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    with pytest.raises(Unavailable) as caught:
        ModelShelf(inner).model(Weights(file="../squares/model.onnx", sha256=WEIGHTS.sha256))
    assert caught.value.code == "inference.model-missing"
