"""Stochastic optimisation of average precision, by the package libauc."""

from math import nan
from typing import Any, Literal, final

from torch import Tensor, nn

from rarelab.errors import RequestError
from rarelab.losses.gather import should_gather
from rarelab.losses.rows import as_labels, as_logits, kept_rows


@final
class APLoss(nn.Module):
    """LibAUC's APLoss: SOAP, a surrogate of average precision (Qi et al., NeurIPS 2021, alg. 1).

        g_i = (mean_j 1[j∈P] ℓ(s_i − s_j), mean_j ℓ(s_i − s_j)) = (a_i, b_i),   AP ≈ mean a_i / b_i
        u_i ← (1 − gamma) u_i + gamma g_i        one running estimate for each positive training row
        gradient = that of  mean_{i∈P} ∇f(u_i)ᵀ g_i,   f(a, b) = −a / b

    ℓ is the squared hinge (or another surrogate) with ``margin``. Since u is kept per training row,
    the trainer passes the rows of each batch to the loss (`rarelab.losses.protocols.Indexed`). Only
    the gradient is meaningful: the value may be negative and does not measure progress. The paper
    pairs the loss with its own optimiser, but any optimiser works.

    Fails when: a batch holds no positive (the loss is then 0; use ``sampler=stratified``); each
    positive is seen once per epoch, so its u is an epoch old; training starts from random weights
    (the authors pre-train with cross-entropy: use a schedule with a warmup). Limited to binary
    targets, one process and no sample weights.

    Args:
        num_classes: must be 1.
        num_rows: number of training targets (sequences: all steps); the builder fills it in.
        gamma: weight of the newest estimate, in (0, 1].
        margin: margin of the surrogate, in logits.
        surr_loss: the surrogate ℓ.
        ignore_index: target of rows to ignore.

    Raises:
        RequestError: the package libauc is not installed.
        ValueError: an argument is out of range; for a call, see ``forward``.
    """

    def __init__(
        self,
        num_classes: int,
        num_rows: int,
        gamma: float = 0.9,
        margin: float = 1.0,
        surr_loss: Literal["squared_hinge", "hinge", "squared", "logistic"] = "squared_hinge",
        ignore_index: int = -100,
    ) -> None:
        super().__init__()
        if num_classes != 1:
            raise ValueError(f"num_classes is {num_classes}: expected 1, since APLoss is binary")
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma is {gamma}, expected in (0, 1]")
        self.ignore_index = ignore_index
        # The trainer sets this to False where it already gives every process all rows.
        self.gather_distributed: bool | None = None
        self.published = _libauc()(
            num_rows, gamma=gamma, margin=margin, surr_loss=surr_loss, device="cpu"
        )
        self._rows: Tensor | None = None

    def on_train_batch_rows(self, rows: Tensor) -> None:
        """Record the training rows, int64 [N], of the next call."""
        self._rows = rows

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The surrogate of logits [N] or [N, 1]; without a positive, a zero attached to the graph.

        A logit that is not finite makes it NaN and leaves the estimates unchanged.

        Raises:
            ValueError: `on_train_batch_rows` was not called or got a different number of rows, or
                there are several processes.
        """
        if should_gather(self.gather_distributed):
            raise ValueError("APLoss keeps its estimates in one process, found several")
        logits = as_logits(logits, 1)
        labels = as_labels(targets, len(logits), 2, self.ignore_index).to(logits.device)
        keep = kept_rows(labels, 2, self.ignore_index)
        rows, self._rows = self._rows, None
        if rows is None or len(rows) != len(logits):
            told = "none" if rows is None else str(len(rows))
            raise ValueError(
                f"APLoss got the positions of {told} of {len(logits)} training rows: call "
                "on_train_batch_rows(rows) before every batch"
            )
        if keep is not None:
            logits, labels, rows = logits[keep], labels[keep], rows.to(keep.device)[keep]
        if not bool(logits.isfinite().all()):
            return logits.sum() * nan  # keep it out of the running estimates
        if len(labels) < 2 or not bool(labels.any()):
            return logits.sum() * 0
        self._move(logits)
        return self.published(logits, labels.unsqueeze(1), rows.to(logits.device))

    def _move(self, like: Tensor) -> None:
        for name in ("u_all", "u_pos"):
            setattr(self.published, name, getattr(self.published, name).to(like))

    def get_extra_state(self) -> dict[str, Any]:
        return {"u_all": self.published.u_all, "u_pos": self.published.u_pos}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.published.u_all, self.published.u_pos = state["u_all"], state["u_pos"]


def _libauc() -> Any:
    try:
        from libauc.losses import APLoss as Published  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise RequestError(
            f"loss: APLoss needs the package libauc ({error}): pip install 'rarelab[libauc]'"
        ) from error
    return Published
