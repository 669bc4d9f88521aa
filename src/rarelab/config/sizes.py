"""Parameters of the other components that follow from the data, the trainer and the sampler."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from rarelab.data.splits import IGNORE_INDEX, Splits
from rarelab.data.tables.preprocess import Preprocessor
from rarelab.models.bins import bin_edges
from rarelab.training.loop import Trainer
from rarelab.training.sampling import Natural, Sampler, row_kinds


@dataclass(frozen=True)
class Sizes:
    """Derives the parameters that other components leave to the data."""

    splits: Splits
    trainer: Trainer
    sampler: Sampler = field(default_factory=Natural)
    rounds: int | None = None
    """For a model grown in rounds, which are its steps: how many there are."""

    @property
    def steps_per_epoch(self) -> int:
        if self.rounds is not None:
            return math.ceil(self.rounds / self.trainer.max_epochs)
        return self.trainer.steps_per_epoch(len(self.splits.train))

    @property
    def total_steps(self) -> int:
        return self.rounds or self.steps_per_epoch * self.trainer.max_epochs

    def class_counts(self) -> torch.Tensor:
        """Training targets of each class, int64 [C]."""
        labels = self.splits.train.labels()
        return torch.bincount(labels, minlength=len(self.splits.classes))

    @cached_property
    def drawn_counts(self) -> torch.Tensor:
        """Expected number of targets of each class in an epoch's batches, float64 [C].

        Raises:
            RequestError: the sampler cannot fill a batch as configured.
        """
        y = self.splits.train.y
        uses = self.sampler.expected_uses(row_kinds(y), self.trainer.batch_size)
        counted = y != IGNORE_INDEX
        uses = uses.view(-1, *[1] * (y.ndim - 1)).expand(y.shape)[counted]
        return torch.bincount(y[counted], weights=uses, minlength=len(self.splits.classes))

    def prior_shift(self) -> torch.Tensor | None:
        """The shift that sampling adds to the log-odds (binary, [1]) or log-rates [C]; None if
        there is none."""
        log_rates = [
            (counts.double().clamp_min(1e-8) / counts.sum()).log()
            for counts in (self.drawn_counts, self.class_counts())
        ]
        shift = log_rates[0] - log_rates[1]
        if self.splits.task == "binary":
            shift = shift[1:] - shift[:1]
        return shift if bool((shift.abs() > 1e-9).any()) else None

    def model_facts(self, leaf: Mapping[str, Any]) -> dict[str, Any]:
        """:meth:`facts`, and the bins of the training columns if the model embeds numbers, and
        which features are the levels of a column, or their codes, if it embeds those or takes
        them for categories."""
        found, x = self.facts(), self.splits.train.x
        if leaf.get("num_embeddings") and "embedding_bins" in leaf:
            rows = x if x.ndim == 2 else x[:0].flatten(0, -2)  # no bins: the model is for rows
            found["bin_edges"] = bin_edges(rows, leaf["embedding_bins"])
        native = leaf.get("categories") == "native"
        if leaf.get("cat_embeddings") or native:
            fitted = self.splits.preprocessor
            found["one_hot"] = fitted.one_hot if isinstance(fitted, Preprocessor) else []
            if native:
                found["codes"] = fitted.codes if isinstance(fitted, Preprocessor) else []
        return found

    def facts(self) -> dict[str, Any]:
        counts = self.drawn_counts.float()
        return {
            "in_features": self.splits.in_features,
            "input_shape": list(self.splits.input_shape),
            "num_outputs": self.splits.num_outputs,
            "num_classes": self.splits.num_outputs,
            "num_rows": self.splits.train.y.numel(),
            "class_counts": self.class_counts().tolist(),
            "class_priors": (self.drawn_counts / self.drawn_counts.sum()).tolist(),
            "pos_weight": (counts[0] / counts[1].clamp_min(1)).item(),
            "T_max": self.total_steps,
            "total_iters": self.total_steps,
        }
