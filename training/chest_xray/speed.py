"""Images per second from DICOM to Finding, against the same backbone in torch eager, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from pydicom.dataset import Dataset
from training.chest_xray.films import as_case
from training.chest_xray.network import FEATURES, Classifier, imagenet
from training.chest_xray.score import load_models

from polyclinic.agentkit.case import Model, SilentTools
from polyclinic_agents.chest_xray.agent import CAM, INPUT, PROBABILITY, SIDE, run

ROUNDS = 5


class TorchModel:
    """The same network in torch eager; the weights do not matter to its speed."""

    def __init__(self) -> None:
        self._network = Classifier(imagenet(), torch.zeros(FEATURES), 0.0).eval()

    def run(self, inputs: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
        """As the inference port."""
        with torch.no_grad():
            probability, cam = self._network(torch.from_numpy(inputs[INPUT]))
        return {PROBABILITY: probability.numpy(), CAM: cam.numpy()}


def measure(datasets: Sequence[Dataset], threads: int) -> dict[str, float]:
    """Medians of `ROUNDS` rounds, the two engines in turn, one image at a time."""
    torch.set_num_threads(threads)
    eager: dict[str, Model] = {"opacity": TorchModel(), "tuberculosis": TorchModel()}
    engines: dict[str, dict[str, Model]] = {"shipped": load_models(threads), "torch_eager": eager}
    image = np.random.default_rng(0).random((1, 1, SIDE, SIDE), dtype=np.float32)
    rates: dict[str, list[float]] = {name: [] for name in engines}
    network: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(ROUNDS + 1):  # the first round warms up
        for name, models in engines.items():
            rate = _rate(datasets, models)
            passes = _passes(models["opacity"], image, len(datasets))
            if number:
                rates[name].append(rate)
                network[name].append(passes)
    figures = {f"{name}_images_per_s": round(statistics.median(values), 2) for name, values in rates.items()}
    figures |= {f"{name}_network_passes_per_s": round(statistics.median(v), 1) for name, v in network.items()}
    return {
        **figures,
        "ratio_end_to_end": round(statistics.median(rates["shipped"]) / statistics.median(rates["torch_eager"]), 2),
        "ratio_network": round(statistics.median(network["shipped"]) / statistics.median(network["torch_eager"]), 2),
        "threads": threads,
    }


def _rate(datasets: Sequence[Dataset], models: dict[str, Model]) -> float:
    tools = SilentTools(models)
    began = time.perf_counter()
    for dataset in datasets:
        dataset._pixel_array = None  # decode each time, as for a new study
        dataset._pixel_id = {}
        run(as_case(dataset), tools)
    return len(datasets) / (time.perf_counter() - began)


def _passes(model: Model, image: npt.NDArray[np.float32], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        model.run({INPUT: image})
    return count / (time.perf_counter() - began)
