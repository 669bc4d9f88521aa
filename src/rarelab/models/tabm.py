"""TabM: k networks in one, which share most of their weights (Gorishniy et al. 2025)."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from rarelab.models.embeddings import CatSize, Kind, Levels, Numbers, embeddings
from rarelab.models.members import of_mean_probability
from rarelab.models.shapes import check_dropout, check_input, check_sizes


class TabM(nn.Module):
    """k multi-layer perceptrons that share their weights up to scales, trained as k networks.

    A thin wrapper around the authors' own package ``tabm``. A member's layer is
    sᵢ ∘ (W (rᵢ ∘ x)) + bᵢ, with W shared; every member has an output layer of its own.

    in_features: F; num_outputs: 1 for two classes, else C; k: members; n_blocks: hidden layers,
    null for the authors' choice (3, with embeddings 2); d_block: their width; dropout: rate in
    [0, 1); arch_type: ``tabm``, ``tabm-mini`` (only one scale per member) or ``tabm-packed``
    (nothing shared); prior_bias: the builder sets the biases of ``head`` from the class
    frequencies; num_embeddings: null, ``piecewise_linear`` or ``periodic``, for the columns with
    bins; embedding_bins: the most bins of a column; embedding_size: of a column's vector,
    null for the authors' own; bin_edges: filled in from the training rows; cat_embeddings: the
    size of a categorical column's vector, ``auto``, or null for its one-hot levels as they are;
    one_hot: filled in, the features that are the levels of each such column.

    Forward takes x [N, F] and returns the logits [N, num_outputs] of the mean of the members'
    probabilities; training uses :meth:`member_logits`. The authors' k is 32 and their width 512;
    the defaults here cost about a twentieth of that. Raises RequestError for a wrong input shape or
    for values out of range.

    Source: Gorishniy et al., TabM: Advancing Tabular Deep Learning with Parameter-Efficient
    Ensembling, ICLR 2025.
    """

    input_ndim: ClassVar[int] = 2

    def __init__(
        self,
        in_features: int,
        num_outputs: int,
        k: int = 8,
        n_blocks: int | None = None,
        d_block: int = 192,
        dropout: float = 0.1,
        arch_type: Literal["tabm", "tabm-mini", "tabm-packed"] = "tabm",
        prior_bias: bool = True,
        num_embeddings: Kind | None = "piecewise_linear",
        embedding_bins: int = 48,
        embedding_size: int | None = None,
        bin_edges: Sequence[Sequence[float]] | None = None,
        cat_embeddings: CatSize | None = "auto",
        one_hot: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        import tabm

        blocks = n_blocks if n_blocks is not None else 2 if num_embeddings else 3
        check_sizes("tabm", in_features=in_features, num_outputs=num_outputs)
        check_sizes("tabm", k=k, n_blocks=blocks, d_block=d_block)
        check_dropout("tabm", dropout=dropout)
        self.in_features, self.prior_bias, self.k = in_features, prior_bias, k
        self.embed, widths = embeddings(
            "tabm",
            in_features,
            Numbers(num_embeddings, embedding_bins, embedding_size, bin_edges),
            Levels(cat_embeddings, one_hot),
        )
        packed = arch_type == "tabm-packed"
        scales = None if packed else "normal" if num_embeddings else "random-signs"
        self.body = tabm.make_tabm_backbone(
            d_in=sum(widths),
            n_blocks=blocks,
            d_block=d_block,
            dropout=dropout,
            k=k,
            arch_type=arch_type,
            start_scaling_init=scales,
            start_scaling_init_chunks=None if packed else widths,
        )
        self.head = tabm.LinearEnsemble(d_block, num_outputs, k=k)

    def member_logits(self, x: Tensor) -> Tensor:
        """The logits of every member, [N, k, num_outputs], of rows [N, F]."""
        check_input(x, model="tabm", input_ndim=2, in_features=self.in_features)
        hidden = _first_layer(self.body, self.embed(x))
        for layer in _after_the_first(self.body):
            hidden = layer(hidden)
        return self.head(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_outputs] of rows [N, F]."""
        return of_mean_probability(self.member_logits(x))


def _after_the_first(body: Any) -> list[nn.Module]:
    """The layers that follow the first linear one."""
    first, *others = body.blocks
    _, *after = first
    return [*after, *others]


def _first_layer(body: Any, x: Tensor) -> Tensor:
    """The first linear layer of every member, [N, k, H], of rows x [N, D].

    As sᵢ ∘ (W (rᵢ ∘ x)) = (diag(sᵢ) W diag(rᵢ)) x, the weights [k, H, D] are scaled and not the
    rows, of which k copies [N, k, D] would take more time than the product where D is large.
    """
    layer = body.blocks[0][0]
    if hasattr(body, "affine"):  # tabm-mini
        weight, bias = body.affine.weight.unsqueeze(1) * layer.weight, layer.bias.expand(body.k, -1)
    elif hasattr(layer, "r"):
        weight = layer.s.unsqueeze(2) * layer.weight * layer.r.unsqueeze(1)
        bias = layer.bias
    else:  # tabm-packed, which has weights of their own, [k, D, H]
        weight, bias = layer.weight.transpose(1, 2), layer.bias
    products = torch.addmm(bias.flatten(), x, weight.flatten(0, 1).T)
    return products.unflatten(1, (body.k, -1))
