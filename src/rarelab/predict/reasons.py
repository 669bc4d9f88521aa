"""Why a row has its score: the raw columns that raised it most."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rarelab.data.tables.preprocess import Preprocessor
from rarelab.errors import RequestError
from rarelab.functional.threads import limited_threads
from rarelab.models import Explained, integrated_gradients
from rarelab.predict.scorer import Scorer

ROWS = 1024
"""Rows of a network's backward pass, at most."""

_NONE = -1


@dataclass(frozen=True)
class Top:
    """The reasons of some rows: columns by number, -1 for none, and what they added, [N, n]."""

    columns: NDArray[np.int32]
    effects: NDArray[np.float32]

    def __getitem__(self, rows: slice) -> "Top":
        return Top(self.columns[rows], self.effects[rows])

    @classmethod
    def joined(cls, parts: Sequence["Top"]) -> "Top":
        columns, effects = ([getattr(part, name) for part in parts] for name in vars(parts[0]))
        return cls(np.concatenate(columns), np.concatenate(effects))


@dataclass(frozen=True)
class Reasons:
    """The ``count`` raw columns that raised a row's score most, of two classes.

    What the features of one raw column add (its one-hot levels, its missing-value flag) is summed.
    Boosters give the Shapley values of their trees, compared with the trees' mean score; networks
    integrated gradients, compared with the mean training row. A column that lowered
    the score or left it is no reason, so a row can have fewer.
    """

    scorer: Scorer
    fitted: Preprocessor
    count: int

    @classmethod
    def of(cls, scorer: Scorer, count: int) -> "Reasons":
        """Raises RequestError if the run's model gives none, or it has fewer columns."""
        fitted, key = scorer.preprocessor, f"reasons={count}"
        if not isinstance(fitted, Preprocessor):
            raise RequestError(f"{key}: this run was trained on arrays, which have no columns")
        if len(scorer.classes) > 2:
            raise RequestError(
                f"{key}: reasons need two classes, this run has {len(scorer.classes)}"
            )
        if not 1 <= count <= len(fitted.columns):
            raise RequestError(f"{key}: expected 1 to {len(fitted.columns)}, the run's columns")
        if isinstance(scorer.model, nn.Module):
            if scorer.baseline is None:
                raise RequestError(
                    f"{key}: this network was recorded before reasons were, without the mean"
                    " training row that they compare with; train it again"
                )
        elif not isinstance(scorer.model, Explained):
            raise RequestError(
                f"{key}: {type(scorer.model).__name__} gives no reasons; LightGBM, XGBoost,"
                " CatBoost and networks do"
            )
        return cls(scorer, fitted, count)

    def top(self, x: Tensor) -> Top:
        """The reasons for the scores of features [N, F], the strongest first."""
        effects = self.effects(x).float()
        ordered, columns = effects.sort(dim=1, descending=True, stable=True)
        ordered, columns = ordered[:, : self.count], columns[:, : self.count]
        none = ~(ordered > 0)
        effects = ordered.masked_fill(none, torch.nan)
        return Top(columns.masked_fill(none, _NONE).int().numpy(), effects.numpy())

    def effects(self, x: Tensor) -> Tensor:
        """What each raw column adds to the scores of features [N, F], float64 [N, K], in the order
        of the preprocessor's ``columns``."""
        total = torch.zeros(len(x), len(self.fitted.columns), dtype=torch.float64)
        return total.index_add_(1, self._places, self._contributions(x).double())

    def columns(self, top: Top) -> dict[str, NDArray]:
        """The columns ``reason_1``, ``reason_1_effect``, ..., a row per row of ``top``."""
        names = np.array([*self.fitted.columns, None], dtype=object)  # the last is for none
        made: dict[str, NDArray] = {}
        for place, (reason, effect) in enumerate(self._names()):
            made[reason] = names[top.columns[:, place]]
            made[effect] = top.effects[:, place]
        return made

    def types(self) -> dict[str, pa.DataType]:
        """The Arrow types of these columns."""
        return {n: t for names in self._names() for n, t in zip(names, _TYPES, strict=True)}

    def _names(self) -> Iterator[tuple[str, str]]:
        for place in range(1, self.count + 1):
            yield f"reason_{place}", f"reason_{place}_effect"

    @cached_property
    def _places(self) -> Tensor:
        places = {name: place for place, name in enumerate(self.fitted.columns)}
        return torch.tensor([places[name] for name in self.fitted.sources])

    def _contributions(self, x: Tensor) -> Tensor:
        model, trainer = self.scorer.model, self.scorer.trainer
        with limited_threads(trainer.threads):
            if not isinstance(model, nn.Module):
                assert isinstance(model, Explained)
                return model.contributions(x)
            device = trainer.torch_device()
            baseline = torch.as_tensor(self.scorer.baseline, device=device)
            rows = x.split(min(trainer.eval_batch_size, ROWS))
            parts = [integrated_gradients(model, part.to(device), baseline) for part in rows]
            return torch.cat(parts).cpu()


_TYPES = (pa.string(), pa.float32())
