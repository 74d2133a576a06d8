"""Fit one network on some patches; the same seed gives the same weights on the same machine and thread count."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from training.nodule_patch.augment import augment
from training.nodule_patch.data import Patches
from training.nodule_patch.network import PatchNet


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Hyperparameters of one fit."""

    width: int = 16
    epochs: int = 24
    batch: int = 96
    rate: float = 3e-3
    decay: float = 0.02
    dropout: float = 0.3
    strength: float = 1.0
    positive_weight: float = 2.0
    smoothing: float = 0.02


def fit(patches: Patches, recipe: Recipe, seed: int) -> PatchNet:
    """Train on all of `patches` with one cycle of the learning rate."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = PatchNet(recipe.width, recipe.dropout).to(memory_format=torch.channels_last)
    steps = recipe.epochs * (len(patches.labels) // recipe.batch)
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps, pct_start=0.25)
    weight = torch.tensor(recipe.positive_weight)
    net.train()
    began = time.monotonic()
    for epoch in range(recipe.epochs):
        order = rng.permutation(len(patches.labels))
        losses = []
        for at in range(0, len(order) - recipe.batch + 1, recipe.batch):
            chosen = order[at : at + recipe.batch]
            images = augment(patches.pixels[chosen], rng, recipe.strength)
            target = torch.from_numpy(patches.labels[chosen]).float()
            target = target * (1 - 2 * recipe.smoothing) + recipe.smoothing
            with torch.autocast("cpu", dtype=torch.bfloat16):
                output = net(images.to(memory_format=torch.channels_last))
            loss = functional.binary_cross_entropy_with_logits(output.float(), target, pos_weight=weight)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        print(
            f"  epoch {epoch + 1}/{recipe.epochs} loss {np.mean(losses):.4f} {time.monotonic() - began:.0f} s",
            flush=True,
        )
    return net.eval()


@torch.inference_mode()
def logits(net: PatchNet, pixels: npt.NDArray[np.uint8], flips: int = 1) -> npt.NDArray[np.float64]:
    """Mean logit over the first `flips` of identity, horizontal, vertical and both, shape (n,)."""
    result = []
    for at in range(0, len(pixels), 256):
        batch = torch.from_numpy(pixels[at : at + 256]).float().div_(255.0)[:, None]
        views = [batch, batch.flip(3), batch.flip(2), batch.flip((2, 3))][:flips]
        result.append(torch.stack([net(view) for view in views]).mean(0).double().numpy())
    return np.concatenate(result)
