"""Logistic regression and the multi-layer perceptron, over rows of features."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

from torch import Tensor, nn

from rarelab.errors import RequestError, nearest
from rarelab.models.embeddings import CatSize, Kind, Levels, Numbers, embeddings
from rarelab.models.shapes import check_dropout, check_input, check_sizes

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Linear(nn.Module):
    """Logistic (or softmax) regression: logits = x Wᵀ + b.

    in_features: F; num_outputs: 1 for two classes, else C; prior_bias: the builder sets b from the
    class frequencies. Forward takes x [N, F] and returns logits [N, num_outputs]. Raises
    RequestError for a wrong input shape.
    """

    input_ndim: ClassVar[int] = 2
    chain: ClassVar[tuple[str, ...]] = ("head",)

    def __init__(self, in_features: int, num_outputs: int, prior_bias: bool = True) -> None:
        super().__init__()
        check_sizes("linear", in_features=in_features, num_outputs=num_outputs)
        self.prior_bias = prior_bias
        self.head = nn.Linear(in_features, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_outputs] of rows [N, F]."""
        check_input(x, model="linear", input_ndim=2, in_features=self.head.in_features)
        return self.head(x)


class MLP(nn.Module):
    """Multi-layer perceptron: [linear, activation, dropout] per hidden width, then a linear head.

    in_features: F; num_outputs: 1 for two classes, else C; hidden: widths of the hidden layers
    (empty: a linear model); dropout: rate in [0, 1); activation: relu, gelu, silu or tanh;
    prior_bias: the builder sets the head's bias from the class frequencies; num_embeddings: null,
    ``piecewise_linear`` or ``periodic``, for the columns with bins; embedding_bins: the most bins
    of a column; embedding_size: of a column's vector, null for the authors' own; bin_edges: filled
    in from the training rows; cat_embeddings: the size of a categorical column's vector, ``auto``,
    or null for its one-hot levels as they are; one_hot: filled in, the features that are the levels
    of each such column. Forward takes x [N, F] and returns logits [N, num_outputs]. Raises
    RequestError for a wrong input shape or for values out of range.
    """

    input_ndim: ClassVar[int] = 2
    chain: ClassVar[tuple[str, ...]] = ("embed", "body", "head")

    def __init__(
        self,
        in_features: int,
        num_outputs: int,
        hidden: Sequence[int] = (64, 64),
        dropout: float = 0.0,
        activation: Literal["relu", "gelu", "silu", "tanh"] = "relu",
        prior_bias: bool = True,
        num_embeddings: Kind | None = None,
        embedding_bins: int = 48,
        embedding_size: int | None = None,
        bin_edges: Sequence[Sequence[float]] | None = None,
        cat_embeddings: CatSize | None = None,
        one_hot: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        check_sizes("mlp", in_features=in_features, num_outputs=num_outputs)
        check_sizes("mlp", **{f"hidden[{i}]": width for i, width in enumerate(hidden)})
        check_dropout("mlp", dropout=dropout)
        if activation not in ACTIVATIONS:
            raise RequestError(
                f"model mlp: unknown activation {activation!r}, {nearest(activation, ACTIVATIONS)}"
            )
        self.in_features, self.prior_bias = in_features, prior_bias
        self.embed, columns = embeddings(
            "mlp",
            in_features,
            Numbers(num_embeddings, embedding_bins, embedding_size, bin_edges),
            Levels(cat_embeddings, one_hot),
        )
        widths = [sum(columns), *hidden]
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [nn.Linear(narrow, wide), ACTIVATIONS[activation]()]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_outputs] of rows [N, F]."""
        check_input(x, model="mlp", input_ndim=2, in_features=self.in_features)
        return self.head(self.body(self.embed(x)))
