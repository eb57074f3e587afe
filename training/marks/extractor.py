"""The network that reads a mark: a fixed high-pass, then convolutions that INT8 engines fuse.

Every layer is a convolution with batch norm and ReLU, an addition, a mean or the last matrix; the
channels are multiples of 32. The last layer sees every cell of the picture by its place, because
carriers are read by place; a global mean would throw that away.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.marks.recipe import Shape
from training.marks.resampling import blur_matrix, spread_by

__all__ = ["Extractor", "HighPass"]

# The mark is a few grey levels: what an edge exceeds this by says nothing more, and a bounded input
# needs no calibration to be quantised.
_MOST_LEVELS = 48.0
_UNIT = 12.0


class HighPass(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """Luma minus its blur, bounded.

    Args:
        size: Side of the picture; the blur is size / 36 wide (standard deviation).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("matrix", blur_matrix(size, size / 36), persistent=False)

    def forward(self, luma: Tensor) -> Tensor:
        """Float32 [n, 1, size, size] of 0 to 255, to about -4 to 4."""
        high = luma - spread_by(luma, self.matrix)
        return high.clamp(-_MOST_LEVELS, _MOST_LEVELS) / _UNIT


class Bottleneck(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """The residual block of He et al. (2015), stride in its 3x3.

    Args:
        inputs: Channels in.
        width: Inner channels; four times as many come out.
        stride: Of the block.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            *_conv(inputs, width, 1, 1),
            nn.ReLU(inplace=True),
            *_conv(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *_conv(width, outputs, 1, 1),
        )
        # A block starts as its shortcut: deep stacks begin to learn sooner.
        nn.init.zeros_(self.body[-1].weight)
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Sequential(*_conv(inputs, outputs, 1, stride))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] to [n, 4 * width, h / stride, w / stride]."""
        return functional.relu(self.shortcut(x) + self.body(x))


class Extractor(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """Luma to soft bits and presence.

    Args:
        shape: Sizes.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.front = HighPass(shape.size)
        first, second, third = shape.stem
        layers: list[nn.Module] = [
            *(*_conv(1, first, 3, 2), nn.ReLU(inplace=True)),
            *(*_conv(first, second, 3, 1), nn.ReLU(inplace=True)),
            *(*_conv(second, third, 3, 2), nn.ReLU(inplace=True)),
        ]
        inputs = third
        for index, (width, depth) in enumerate(zip(shape.widths, shape.depths, strict=True)):
            for block in range(depth):
                stride = 2 if index and not block else 1
                layers.append(Bottleneck(inputs, width, stride))
                inputs = 4 * width
        layers += [*_conv(inputs, shape.neck, 1, 1), nn.ReLU(inplace=True)]
        side = shape.size // (4 << (len(shape.widths) - 1))
        if side > shape.cells:
            layers.append(nn.AvgPool2d(side // shape.cells))
        self.body = nn.Sequential(*layers)
        self.last = nn.Linear(shape.neck * min(side, shape.cells) ** 2, shape.bits + 1)

    def forward(self, luma: Tensor) -> tuple[Tensor, Tensor]:
        """Read a batch.

        Args:
            luma: Float32 [n, 1, size, size], 0 to 255: the active picture, squashed to a square.

        Returns:
            Logits [n, bits], above 0 where the bit is 1, and the logit of presence [n].
        """
        with torch.autocast(luma.device.type, enabled=False):
            high = self.front(luma.float())
        cells = self.body(high.contiguous(memory_format=torch.channels_last))
        answers = self.last(cells.flatten(1)).float()
        return answers[:, :-1], answers[:, -1]


def _conv(inputs: int, outputs: int, kernel: int, stride: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs)
