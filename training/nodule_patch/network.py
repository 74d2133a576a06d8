"""A compact residual network for 50 x 50 patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

INPUT = "patch"
OUTPUT = "probability"


class Residual(nn.Module):
    """Two 3 x 3 convolutions with a short cut; `stride` 2 halves the image."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class PatchNet(nn.Module):
    """Logit of "nodule" for patches (n, 1, 50, 50) scaled to 0..1; about 0.3 M parameters at width 16."""

    def __init__(self, width: int = 16, dropout: float = 0.3) -> None:
        super().__init__()
        w = width
        # Four neighbouring pixels become four channels: nothing is lost and the first layers cost a quarter.
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4, 2 * w, 3, 1, 1, bias=False),
            nn.BatchNorm2d(2 * w),
            nn.ReLU(inplace=True),
            Residual(2 * w, 2 * w, 1),
            Residual(2 * w, 4 * w, 2),
            Residual(4 * w, 4 * w, 1),
            Residual(4 * w, 6 * w, 2),
        )
        # The middle holds the candidate, the mean its surroundings.
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(18 * w, 1))

    def forward(self, patch: Tensor) -> Tensor:
        x = self.features((patch - 0.25) / 0.3)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3)), x[:, :, 2:5, 2:5].mean((2, 3))], dim=1)
        return self.head(pooled).squeeze(1)


class CalibratedEnsemble(nn.Module):
    """What is exported: mean logit of several networks over flips of the patch, then Platt's sigmoid."""

    def __init__(self, members: list[PatchNet], slope: float, offset: float, flips: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.slope, self.offset, self.flips = slope, offset, flips

    def logit(self, patch: Tensor) -> Tensor:
        """Uncalibrated mean logit, shape (n,)."""
        views = [patch, patch.flip(3), patch.flip(2), patch.flip((2, 3))][: self.flips]
        logits = [member(view) for member in self.members for view in views]
        return torch.stack(logits).mean(0)

    def forward(self, patch: Tensor) -> Tensor:
        return torch.sigmoid(self.slope * self.logit(patch) + self.offset)
