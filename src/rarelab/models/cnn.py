"""A small convolutional network over images."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from rarelab.errors import RequestError
from rarelab.models.shapes import INSTEAD, check_dropout, check_sizes


class CNN(nn.Module):
    """[convolution, ReLU, 2 x 2 max-pooling] per number of channels, then a linear head.

    num_outputs: 1 for two classes, else C; input_shape: [C_in, H, W] of an image; channels: of each
    convolution (of ``kernel_size`` x ``kernel_size`` pixels, padded to the image's size), after
    which height and width are halved, rounded down; kernel_size: odd; dropout: rate in [0, 1)
    before the head; prior_bias: the builder sets the head's bias from the class frequencies.
    Forward takes x [N, C_in, H, W] and returns logits [N, num_outputs]. Raises RequestError for a
    wrong input shape, an image too small to be halved that often, or values out of range.
    """

    input_ndim: ClassVar[int] = 4

    def __init__(
        self,
        num_outputs: int,
        input_shape: Sequence[int],
        channels: Sequence[int] = (16, 32),
        kernel_size: int = 3,
        dropout: float = 0.0,
        prior_bias: bool = True,
    ) -> None:
        super().__init__()
        check_sizes("cnn", num_outputs=num_outputs, kernel_size=kernel_size)
        check_sizes("cnn", **{f"channels[{i}]": width for i, width in enumerate(channels)})
        check_dropout("cnn", dropout=dropout)
        self.input_shape, self.prior_bias = tuple(input_shape), prior_bias
        if len(self.input_shape) != 3:
            raise RequestError(f"model cnn reads images [C, H, W], found {list(input_shape)}")
        if kernel_size % 2 == 0:
            raise RequestError(f"model cnn: kernel_size must be odd, found {kernel_size}")
        first, *sides = self.input_shape
        height, width = (side // 2 ** len(channels) for side in sides)
        if not height or not width:
            raise RequestError(
                f"model cnn: {len(channels)} convolutions halve an image of {sides[0]} x {sides[1]}"
                " pixels to nothing: shorten channels"
            )
        layers: list[nn.Module] = []
        for narrow, wide in pairwise([first, *channels]):
            convolution = nn.Conv2d(narrow, wide, kernel_size, padding=kernel_size // 2)
            layers += [convolution, nn.ReLU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout))
        self.head = nn.Linear([first, *channels][-1] * height * width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_outputs] of images [N, C_in, H, W]."""
        if x.shape[1:] != self.input_shape:
            advice = f"; {INSTEAD[x.ndim]}" if x.ndim in INSTEAD and x.ndim != 4 else ""
            expected = f"[{', '.join(map(str, ('N', *self.input_shape)))}]"
            raise RequestError(f"model cnn reads images {expected}, found {list(x.shape)}{advice}")
        return self.head(self.body(x))
