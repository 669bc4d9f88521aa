"""Gated recurrent unit over padded sequences, one prediction per step."""

from typing import ClassVar

from torch import Tensor, nn

from rarelab.models.shapes import check_dropout, check_input, check_sizes


class GRU(nn.Module):
    """Gated recurrent unit (Cho et al. 2014) with a linear head at every step.

    in_features: F; num_outputs: 1 for two classes, else C; hidden_size: width of each direction;
    num_layers: stacked layers; dropout: rate between layers and before the head; bidirectional: a
    second pass from the end, which doubles the head's input; prior_bias: the builder sets the
    head's bias from the class frequencies. Forward takes x [B, T, F] and returns logits
    [B, T, num_outputs].

    Padding is at the end, and the loss ignores its outputs. The forward direction never sees it
    before a real step; the backward direction reads it first, like any other step.
    Raises RequestError for a wrong input shape or for values out of range.
    """

    input_ndim: ClassVar[int] = 3

    def __init__(
        self,
        in_features: int,
        num_outputs: int,
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
        prior_bias: bool = True,
    ) -> None:
        super().__init__()
        check_sizes("gru", in_features=in_features, num_outputs=num_outputs)
        check_sizes("gru", hidden_size=hidden_size, num_layers=num_layers)
        check_dropout("gru", dropout=dropout)
        self.in_features, self.prior_bias = in_features, prior_bias
        self.body = nn.GRU(
            in_features,
            hidden_size,
            num_layers=num_layers,
            # With one layer there is nothing in between, and torch warns about a rate.
            dropout=dropout if num_layers > 1 else 0.0,
            bidirectional=bidirectional,
            batch_first=True,
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size * (2 if bidirectional else 1), num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, T, num_outputs] of sequences [B, T, F]."""
        check_input(x, model="gru", input_ndim=3, in_features=self.in_features)
        states, _ = self.body(x)
        return self.head(self.dropout(states))
