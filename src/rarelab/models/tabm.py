"""TabM: k networks in one, which share most of their weights (Gorishniy et al. 2025)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from rarelab.models.embeddings import Kind, embeddings
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
    null for the authors' own; bin_edges: filled in from the training rows.

    Forward takes x [N, F] and returns the logits [N, num_outputs] of the mean of the members'
    probabilities; training uses :meth:`member_logits`. Raises RequestError for a wrong input shape
    or for values out of range.

    Source: Gorishniy et al., TabM: Advancing Tabular Deep Learning with Parameter-Efficient
    Ensembling, ICLR 2025.
    """

    input_ndim: ClassVar[int] = 2

    def __init__(
        self,
        in_features: int,
        num_outputs: int,
        k: int = 32,
        n_blocks: int | None = None,
        d_block: int = 512,
        dropout: float = 0.1,
        arch_type: Literal["tabm", "tabm-mini", "tabm-packed"] = "tabm",
        prior_bias: bool = True,
        num_embeddings: Kind | None = None,
        embedding_bins: int = 48,
        embedding_size: int | None = None,
        bin_edges: Sequence[Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        import tabm

        blocks = n_blocks if n_blocks is not None else 2 if num_embeddings else 3
        check_sizes("tabm", in_features=in_features, num_outputs=num_outputs)
        check_sizes("tabm", k=k, n_blocks=blocks, d_block=d_block)
        check_dropout("tabm", dropout=dropout)
        self.in_features, self.prior_bias, self.k = in_features, prior_bias, k
        self.embed, widths = embeddings(
            "tabm", in_features, num_embeddings, embedding_bins, embedding_size, bin_edges
        )
        packed = arch_type == "tabm-packed"
        scales = None if packed else "normal" if num_embeddings else "random-signs"
        self.spread = tabm.EnsembleView(k=k)
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
        return self.head(self.body(self.spread(self.embed(x))))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_outputs] of rows [N, F]."""
        return of_mean_probability(self.member_logits(x))
