"""K networks of one architecture as one, on rows of their own: their weights are stacked."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call

from rarelab.models.layers import DROPOUTS, mixing_rows

Layer = Callable[[Tensor], Tensor]


@runtime_checkable
class Chain(Protocol):
    """A network for rows that is the layers named by ``chain``, one after the other, so that
    several of them can be stacked."""

    @property
    def chain(self) -> Sequence[str]: ...


def can_be_stacked(network: type) -> bool:
    """Whether networks of this class train together."""
    return bool(getattr(network, "chain", ()))


@final
class Stacked(nn.Module):
    """K networks whose weights are stacked, [K, ...]: x [K, N, F] gives logits [K, N, C].

    The weights of each network become views of the stack, so that it stays usable on its own; its
    ``state_dict`` copies them. A linear layer is one batched product; other layers with weights
    are mapped over the networks. Each network's dropout draws from a generator of its own, with
    the bits of that network alone (on the CPU).

    Args:
        networks: K networks of one class with the same shapes.
        draws: the K generators of dropout, on the networks' device.

    Raises:
        ValueError: their shapes differ.
    """

    def __init__(self, networks: Sequence[nn.Module], draws: Sequence[Generator]) -> None:
        super().__init__()
        if len({shapes(network) for network in networks}) > 1:
            raise ValueError("the networks differ in the shapes of their weights")
        self._networks = list(networks)  # not registered: their weights are views of these
        self.names = [name for name, _ in networks[0].named_parameters()]
        each = [dict(network.named_parameters()) for network in networks]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.stack([own[name].detach() for own in each])) for name in self.names
        )
        for index, (network, own) in enumerate(zip(networks, each, strict=True)):
            for name, whole in zip(self.names, self.weights, strict=True):
                own[name].data = whole.data[index]
            network.register_state_dict_post_hook(_copied)
        self._draws = list(draws)
        self._chain = list(self._layers())

    def __len__(self) -> int:
        return len(self._networks)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [K, N, C] of rows [K, N, F]."""
        for layer in self._chain:
            x = layer(x)
        return x

    def _layers(self) -> Iterator[Layer]:
        first = self._networks[0]
        assert isinstance(first, Chain)
        for top in first.chain:
            for name, layer in _leaves(first.get_submodule(top), top):
                yield self._layer(name, layer)

    def _layer(self, name: str, layer: nn.Module) -> Layer:
        if isinstance(layer, nn.Linear):
            weight = self._weight(f"{name}.weight")
            return _Linear(weight, None if layer.bias is None else self._weight(f"{name}.bias"))
        if isinstance(layer, nn.Dropout):
            return lambda x: self._dropped(x, layer.p)
        if isinstance(layer, DROPOUTS) or any(True for _ in mixing_rows(layer)):
            raise ValueError(f"{name} ({type(layer).__name__}) cannot be stacked")
        if not [*layer.parameters(), *layer.buffers()]:
            return layer
        return _Mapped(name, self._networks, dict(zip(self.names, self.weights, strict=True)))

    def _weight(self, name: str) -> Tensor:
        return self.weights[self.names.index(name)]

    def _dropped(self, x: Tensor, rate: float) -> Tensor:
        """Dropout as torch's own, one network after the other."""
        if not self.training or not rate:
            return x
        kept = torch.empty_like(x)
        for own, draw in zip(kept, self._draws, strict=True):
            own.bernoulli_(1 - rate, generator=draw)
        return x * kept.div_(1 - rate)


@final
class Stack(nn.Module):
    """Networks in stacks side by side, so that an optimizer can treat each stack differently.

    Args:
        networks, draws: as for :class:`Stacked`.
        kinds: one per network; neighbours of one kind make a stack.
    """

    def __init__(
        self, networks: Sequence[nn.Module], draws: Sequence[Generator], kinds: Sequence[str]
    ) -> None:
        super().__init__()
        starts = [i for i, kind in enumerate(kinds) if i == 0 or kind != kinds[i - 1]]
        self._spans = list(pairwise([*starts, len(networks)]))
        self.stacks = nn.ModuleList(
            Stacked(networks[start:stop], draws[start:stop]) for start, stop in self._spans
        )

    def parts(self) -> Iterator[tuple[int, Stacked]]:
        """The stacks, each with the position of its first network."""
        for (start, _), stack in zip(self._spans, self.stacks, strict=True):
            assert isinstance(stack, Stacked)
            yield start, stack

    def forward(self, x: Tensor) -> Tensor:
        """As :meth:`Stacked.forward`."""
        if len(self._spans) == 1:
            return self.stacks[0](x)
        parts = zip(self._spans, self.stacks, strict=True)
        return torch.cat([stack(x[start:stop]) for (start, stop), stack in parts])


class _Linear:
    """x Wᵀ + b of every network."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        product = torch.bmm(x, self._weight.transpose(1, 2))
        return product if self._bias is None else product.add_(self._bias.unsqueeze(1))


class _Mapped:
    """Any other layer: mapped over the networks with their weights and buffers."""

    def __init__(
        self, name: str, networks: Sequence[nn.Module], weights: dict[str, Tensor]
    ) -> None:
        self._layer = networks[0].get_submodule(name)
        own = len(name) + 1
        self._weights = {n[own:]: w for n, w in weights.items() if n.startswith(f"{name}.")}
        layers = [dict(network.get_submodule(name).named_buffers()) for network in networks]
        self._buffers = {n: torch.stack([each[n] for each in layers]) for n in layers[0]}

    def __call__(self, x: Tensor) -> Tensor:
        def call(weights: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(self._layer, weights, (x,))

        return torch.func.vmap(call)(self._weights | self._buffers, x)


def shapes(network: nn.Module) -> tuple[Any, ...]:
    """The names and shapes of a network's weights and buffers."""
    found = (*network.named_parameters(), *network.named_buffers())
    return tuple((name, tuple(values.shape)) for name, values in found)


def _leaves(layer: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """A layer, or those of a sequence, with their names."""
    if isinstance(layer, nn.Sequential):
        for inner, part in layer.named_children():
            yield from _leaves(part, f"{name}.{inner}")
    elif not isinstance(layer, nn.Identity):
        yield name, layer


def _copied(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Replace the views in a network's state by copies, which do not keep the stack alive."""
    for name, value in state.items():
        if isinstance(value, Tensor):
            state[name] = value.clone()
