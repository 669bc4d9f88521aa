"""Average precision by stochastic optimisation, as the package libauc has it."""

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

    ℓ is the squared hinge (or another) of ``margin``. Since u belongs to training rows, the trainer
    tells the loss which rows each batch holds (`rarelab.losses.protocols.Indexed`). The value is a
    surrogate whose gradient is meant; it may be negative, and it is no measure of progress. The
    paper pairs it with its own optimiser; any of ours takes its gradient.

    Fails when: a batch holds no positive (it is then a zero; take ``sampler=stratified``); a
    positive comes by once an epoch, so that its u is an epoch old; it starts from random weights
    (the authors pre-train with cross-entropy: take a schedule with a warmup). Binary, one process
    and no sample weights alone.

    Args:
        num_classes: 1; anything else is refused.
        num_rows: training targets, of sequences all steps; the builder fills it in.
        gamma: weight of the newest estimate, in (0, 1].
        margin: of the surrogate, in logits.
        surr_loss: the surrogate ℓ.
        ignore_index: target of rows that are left out.

    Raises:
        RequestError: the package libauc is not installed.
        ValueError: an argument is out of its range; see ``forward`` for a call.
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
            raise ValueError(f"num_classes is {num_classes}: APLoss ranks one class, it is binary")
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma is {gamma}, expected in (0, 1]")
        self.ignore_index = ignore_index
        # The trainer sets it to False where it hands every process the rows of all.
        self.gather_distributed: bool | None = None
        self.published = _libauc()(
            num_rows, gamma=gamma, margin=margin, surr_loss=surr_loss, device="cpu"
        )
        self._rows: Tensor | None = None

    def on_train_batch_rows(self, rows: Tensor) -> None:
        """Take note of the training rows, int64 [N], that the next call is about."""
        self._rows = rows

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The surrogate of logits [N] or [N, 1]; a zero on the graph without a positive.

        A logit that is not finite makes it NaN and leaves the estimates as they are.

        Raises:
            ValueError: `on_train_batch_rows` was not called, or with another number of rows; or
                there are several processes.
        """
        if should_gather(self.gather_distributed):
            raise ValueError("APLoss keeps its estimates in one process, and there are several")
        logits = as_logits(logits, 1)
        labels = as_labels(targets, len(logits), 2, self.ignore_index).to(logits.device)
        keep = kept_rows(labels, 2, self.ignore_index)
        rows, self._rows = self._rows, None
        if rows is None or len(rows) != len(logits):
            told = "none" if rows is None else str(len(rows))
            raise ValueError(
                f"APLoss was told the positions of {told} of {len(logits)} training rows: call "
                "on_train_batch_rows(rows) before every batch"
            )
        if keep is not None:
            logits, labels, rows = logits[keep], labels[keep], rows.to(keep.device)[keep]
        if not bool(logits.isfinite().all()):
            return logits.sum() * nan  # the running estimates must not take it in
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
