"""A shelf whose models are functions, for tests of agents and journeys."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from polyclinic.agentkit.manifest import Weights
from polyclinic.core.errors import Unavailable
from polyclinic.edges.inference.signature import Arrays, Shape, Signature, run_in_batches


class FakeModel:
    """Port `polyclinic.agentkit.case.Model`: checks inputs as a real engine does, and answers with a function.

    Parameters
    ----------
    inputs
        Shape of each input by name; None for an axis of any length.
    answer
        Given the checked inputs, the outputs.
    """

    def __init__(self, inputs: Mapping[str, Shape], answer: Callable[[Arrays], Arrays]) -> None:
        self._signature = Signature(inputs=dict(inputs))
        self._answer = answer
        self.rows_seen = 0

    def run(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> Arrays:
        """See `polyclinic.agentkit.case.Model.run`."""
        answers = run_in_batches(self._signature, inputs, self._answer)
        self.rows_seen += len(next(iter(inputs.values())))
        return answers


class FakeModelShelf:
    """Models by the sha256 of their weights, as `ModelShelf` gives them."""

    def __init__(self, models: Mapping[str, FakeModel]) -> None:
        self._models = dict(models)

    def model(self, weights: Weights) -> FakeModel:
        """See `ModelShelf.model`."""
        try:
            return self._models[weights.sha256]
        except KeyError as error:
            raise Unavailable("inference.model-missing", f"The weights {weights.file} are not installed") from error
