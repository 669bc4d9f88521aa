"""Residual network and transformer for tabular data, as published (Gorishniy et al. 2021).

Thin wrappers around ``rtdl_revisiting_models``, the authors' own package: uniform size arguments,
uniform errors for a wrong shape, and the output layer under the name ``head``.
"""

from collections.abc import Sequence
from typing import ClassVar, cast

import rtdl_revisiting_models as rtdl
from torch import Tensor, nn

from rarelab.errors import RequestError
from rarelab.models.embeddings import CatSize, Kind, Levels, Numbers, embeddings
from rarelab.models.shapes import check_dropout, check_input, check_sizes


class TabularResNet(nn.Module):
    """Residual network: x + dropout(linear(dropout(relu(linear(batchnorm(x)))))) per block.

    in_features: F; num_outputs: 1 for two classes, else C; n_blocks: residual blocks; d_block:
    width of the residual stream; d_hidden_multiplier: hidden width of a block divided by d_block;
    dropout1: after the activation; dropout2: on the residual; prior_bias: the builder sets the
    head's bias from the class frequencies; num_embeddings: null, ``piecewise_linear`` or
    ``periodic``, for the columns with bins; embedding_bins: the most bins of a column;
    embedding_size: of a column's vector, null for the authors' own; bin_edges: filled in from the
    training rows; cat_embeddings: the size of a categorical column's vector, ``auto``, or null for
    its one-hot levels as they are; one_hot: filled in, the features that are the levels of each
    such column. Forward takes x [N, F] and returns logits [N, num_outputs]. A training batch of
    one row has no batch statistics, so the running ones are used. Raises RequestError for a wrong
    input shape or for values out of range.

    Source: Gorishniy et al., Revisiting Deep Learning Models for Tabular Data, NeurIPS 2021, 3.2.
    """

    input_ndim: ClassVar[int] = 2

    def __init__(
        self,
        in_features: int,
        num_outputs: int,
        n_blocks: int = 2,
        d_block: int = 192,
        d_hidden_multiplier: float = 2.0,
        dropout1: float = 0.3,
        dropout2: float = 0.0,
        prior_bias: bool = True,
        num_embeddings: Kind | None = None,
        embedding_bins: int = 48,
        embedding_size: int | None = None,
        bin_edges: Sequence[Sequence[float]] | None = None,
        cat_embeddings: CatSize | None = None,
        one_hot: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        name = "tabular_resnet"
        check_sizes(name, in_features=in_features, num_outputs=num_outputs)
        check_sizes(name, n_blocks=n_blocks, d_block=d_block)
        check_dropout(name, dropout1=dropout1, dropout2=dropout2)
        _check_hidden(name, "d_hidden_multiplier", d_block, d_hidden_multiplier)
        self.in_features, self.prior_bias = in_features, prior_bias
        self.embed, widths = embeddings(
            name,
            in_features,
            Numbers(num_embeddings, embedding_bins, embedding_size, bin_edges),
            Levels(cat_embeddings, one_hot),
        )
        self.net = rtdl.ResNet(
            d_in=sum(widths),
            d_out=num_outputs,
            n_blocks=n_blocks,
            d_block=d_block,
            d_hidden_multiplier=d_hidden_multiplier,
            dropout1=dropout1,
            dropout2=dropout2,
        )
        self._norms = [m for m in self.net.modules() if isinstance(m, nn.BatchNorm1d)]

    @property
    def head(self) -> nn.Linear:
        """The output layer."""
        return cast(nn.Sequential, self.net.output).get_submodule("linear")  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_outputs] of rows [N, F]."""
        check_input(x, model="tabular_resnet", input_ndim=2, in_features=self.in_features)
        if not (self.training and len(x) == 1):
            return self.net(self.embed(x))
        for norm in self._norms:
            norm.eval()
        try:
            return self.net(self.embed(x))
        finally:
            for norm in self._norms:
                norm.train()


class FTTransformer(nn.Module):
    """Feature-tokenizer transformer: attention over one token per feature and a class token.

    in_features: F; num_outputs: 1 for two classes, else C; n_blocks: transformer blocks; d_block:
    token width, a multiple of attention_n_heads; ffn_d_hidden_multiplier: hidden width of the
    ReGLU feed-forward part divided by d_block; the three dropouts act on the attention map, the
    hidden layer and the residual branches; prior_bias: the builder sets the head's bias from the
    class frequencies. The defaults are the authors' for two blocks (for three: width 192, dropouts
    0.2 and 0.1). All columns, including one-hot ones, are treated as numeric. Cost per row grows
    with F². Forward takes x [N, F] and returns logits [N, num_outputs]. Raises RequestError for a
    wrong input shape or for values out of range.

    Source: Gorishniy et al., Revisiting Deep Learning Models for Tabular Data, NeurIPS 2021, 3.3.
    """

    input_ndim: ClassVar[int] = 2

    def __init__(
        self,
        in_features: int,
        num_outputs: int,
        n_blocks: int = 2,
        d_block: int = 128,
        attention_n_heads: int = 8,
        attention_dropout: float = 0.15,
        ffn_d_hidden_multiplier: float = 4 / 3,
        ffn_dropout: float = 0.05,
        residual_dropout: float = 0.0,
        prior_bias: bool = True,
    ) -> None:
        super().__init__()
        name = "ft_transformer"
        check_sizes(name, in_features=in_features, num_outputs=num_outputs, n_blocks=n_blocks)
        check_sizes(name, d_block=d_block, attention_n_heads=attention_n_heads)
        check_dropout(name, attention_dropout=attention_dropout, ffn_dropout=ffn_dropout)
        check_dropout(name, residual_dropout=residual_dropout)
        _check_hidden(name, "ffn_d_hidden_multiplier", d_block, ffn_d_hidden_multiplier)
        if d_block % attention_n_heads:
            raise RequestError(
                f"model {name}: d_block must be a multiple of attention_n_heads = "
                f"{attention_n_heads}, found {d_block}"
            )
        self.in_features, self.prior_bias = in_features, prior_bias
        self.net = rtdl.FTTransformer(
            n_cont_features=in_features,
            cat_cardinalities=[],
            d_out=num_outputs,
            n_blocks=n_blocks,
            d_block=d_block,
            attention_n_heads=attention_n_heads,
            attention_dropout=attention_dropout,
            ffn_d_hidden_multiplier=ffn_d_hidden_multiplier,
            ffn_dropout=ffn_dropout,
            residual_dropout=residual_dropout,
        )

    @property
    def head(self) -> nn.Linear:
        """The output layer."""
        return self.net.backbone.get_submodule("output.linear")  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_outputs] of rows [N, F]."""
        check_input(x, model="ft_transformer", input_ndim=2, in_features=self.in_features)
        return self.net(x, None)


def _check_hidden(model: str, name: str, width: int, multiplier: float) -> None:
    if int(width * multiplier) < 1:
        raise RequestError(
            f"model {model}: {name} must leave a hidden width of at least 1, found {multiplier!r} "
            f"of {width}"
        )
