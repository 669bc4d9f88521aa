"""SOAP's gradient in plain Python: Qi, Luo, Xu, Ji, Yang, NeurIPS 2021, alg. 1, eq. 5, 6.

`Soap` is the reference. `Published` mimics libauc's APLoss, to test the adapter where libauc is
not installed.
"""

import torch
from torch import Tensor, nn


class Soap:
    """Running estimates per training row, and the gradient with respect to a batch's scores."""

    def __init__(self, rows: int, gamma: float, margin: float) -> None:
        self.gamma, self.margin = gamma, margin
        self.positive = [0.0] * rows
        self.everyone = [0.0] * rows

    def gradient(self, scores, labels, rows) -> list[float]:
        """d of mean over (positive i, row j) of ∇f(u_i)ᵀ(1[j∈P], 1) ℓ(s_i − s_j), f = −a / b."""
        found = [0.0] * len(scores)
        places = [i for i, label in enumerate(labels) if label]
        pairs = len(places) * len(scores)
        for i in places:
            hinge = [max(0.0, self.margin - (scores[i] - s)) for s in scores]
            a = sum(h * h for h, label in zip(hinge, labels, strict=True) if label) / len(scores)
            b = sum(h * h for h in hinge) / len(scores)
            row = rows[i]
            self.positive[row] = (1 - self.gamma) * self.positive[row] + self.gamma * a
            self.everyone[row] = (1 - self.gamma) * self.everyone[row] + self.gamma * b
            u, v = self.positive[row], self.everyone[row]
            for j, label in enumerate(labels):
                weight = (u - v * bool(label)) / v**2
                slope = 2 * hinge[j] * weight / pairs
                found[i] -= slope
                found[j] += slope
        return found


class Published(nn.Module):
    """Same interface as ``libauc.losses.APLoss``, with the squared hinge only."""

    def __init__(
        self, data_len: int, gamma: float, margin: float, surr_loss: str, device: str
    ) -> None:
        super().__init__()
        assert surr_loss == "squared_hinge"
        self.gamma, self.margin = gamma, margin
        self.u_all = torch.zeros(data_len, 1, device=device)
        self.u_pos = torch.zeros(data_len, 1, device=device)

    def forward(self, scores: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        positive = labels.flatten() == 1
        own, hinge = index[positive], self.margin - (scores[positive] - scores.flatten())
        hinge = hinge.clamp_min(0).square()
        for estimate, found in ((self.u_all, hinge), (self.u_pos, hinge * positive)):
            newest = found.detach().mean(1, keepdim=True)
            estimate[own] = (1 - self.gamma) * estimate[own] + self.gamma * newest
        everyone, positives = self.u_all[own], self.u_pos[own]
        return ((positives - everyone * positive) / everyone**2 * hinge).mean()
