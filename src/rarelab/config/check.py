"""Checks a leaf's target, parameter names and values before anything is built."""

import collections.abc
import functools
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from rarelab.config.components import load_target
from rarelab.errors import RequestError, nearest
from rarelab.quoting import override

_HYDRA_KEYS = {"_target_", "_convert_", "_recursive_", "_partial_"}
_OWN_RULES = "_parameter_constraints"
"""Where a scikit-learn class lists the values it takes; its signature has no types."""


def check_leaf(
    key: str,
    leaf: Any,
    *,
    allow: Iterable[str],
    supplied: frozenset[str] = frozenset(),
    group: str | None = None,
) -> None:
    """Check one leaf ``{"_target_": ..., name: value, ...}`` against its target's signature.

    Args:
        key: the leaf's key, for the message (``loss``).
        leaf: plain containers, interpolations resolved.
        allow: prefixes of the user's own modules, which are also accepted for targets.
        supplied: parameters that may be null or missing because the builder fills them in.
        group: the group whose components the leaf, and any leaf inside it, may name; default key.

    Raises:
        RequestError: with the key, the value, what was expected and the nearest valid name.
    """
    if not isinstance(leaf, Mapping) or "_target_" not in leaf:
        raise RequestError(f"{key}: expected a group choice with a _target_, found {leaf!r}")
    group = group or key
    target = load_target(f"{key}._target_", leaf["_target_"], group, allow=allow)
    known = parameters(target)
    hints = _hints(target)
    for name, value in leaf.items():
        if name in _HYDRA_KEYS:
            continue
        if name not in known:
            raise RequestError(
                f"{key}.{name}: {leaf['_target_']} has no such parameter; "
                f"{nearest(name, known.keys() - supplied)}"
            )
        _check_inside(f"{key}.{name}", value, allow=allow, supplied=supplied, group=group)
        if isinstance(value, Mapping) and "_target_" in value:
            continue
        if not (value is None and name in supplied):
            check_value(f"{key}.{name}", value, _expected(known[name], hints.get(name)))
    _check_required(key, leaf, known, supplied)
    if hasattr(target, _OWN_RULES):
        _check_by_own_rules(key, leaf, target)


def _check_by_own_rules(key: str, leaf: Mapping[str, Any], target: Any) -> None:
    from rarelab.models.classifier import wrong_option

    plain = {
        name: value
        for name, value in leaf.items()
        if name not in _HYDRA_KEYS and not any("_target_" in k for k, _ in leaves(value, name))
    }
    wrong = wrong_option(target, plain)
    if wrong is not None:
        name, expected = wrong
        raise RequestError(f"{key}.{name}={_shown(leaf[name])}: expected {expected}")


def _check_inside(key: str, value: Any, **how: Any) -> None:
    """Check every leaf below a value: anything with a ``_target_`` gets built, at any depth."""
    if isinstance(value, Mapping) and "_target_" in value:
        check_leaf(key, value, **how)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            _check_inside(f"{key}.{name}", inner, **how)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_inside(f"{key}.{index}", inner, **how)


def check_plain(key: str, node: Any) -> None:
    """Refuse interpolations in a record, which may come from someone else: ``${oc.env:HOME}`` would
    read this machine's environment, and ``${oc.create:...}`` would make a leaf.

    Raises:
        RequestError: with the key.
    """
    for name, value in leaves(node, key):
        if isinstance(value, str) and "${" in value:
            raise RequestError(f"{name}={value}: interpolations are not allowed in a record")


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value in nested dictionaries and lists, with its dotted key."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from leaves(value, f"{prefix}.{index}")
    else:
        yield prefix, node


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The named parameters of a class or function, in order."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(target).parameters
    return {name: parameter for name, parameter in signature.items() if parameter.kind in named}


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    if hasattr(target, _OWN_RULES):
        return dict.fromkeys(parameters(target), Any)
    function = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):
        return {}


def _expected(parameter: inspect.Parameter, hint: Any) -> Any:
    if hint is not None:
        return hint
    default = parameter.default
    plain = (bool, int, float, str)
    if isinstance(default, plain):
        return float if type(default) in (int, float) else type(default)
    return Any


def _check_required(
    key: str, leaf: Mapping[str, Any], known: Mapping[str, inspect.Parameter], supplied: frozenset
) -> None:
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in leaf and name not in supplied:
            raise RequestError(f"{key}.{name}: required by {leaf['_target_']}, but missing")


def check_value(key: str, value: Any, expected: Any) -> None:
    """Refuse a value not of the expected type, strictly by JSON's rules: no text for a number."""
    adapter = _adapter(expected)
    if adapter is None:
        return
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        meant = f"{_describe(expected)}{_nearest_literal(value, expected)}"
        raise RequestError(
            f"{key}={_shown(value)}: expected {meant}{_as_text(key, value, adapter)}"
        ) from None


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _as_text(key: str, value: Any, adapter: TypeAdapter) -> str:
    """The override that gives a number as text, if that is what the key takes."""
    numbers = value if isinstance(value, list) else [value]
    if not numbers or any(isinstance(v, str) or not isinstance(v, int | float) for v in numbers):
        return ""
    texts = [str(v) for v in value] if isinstance(value, list) else str(value)
    try:
        adapter.validate_python(texts, strict=True)
    except ValidationError:
        return ""
    return f"; as text: {override(key, texts)}"


def _nearest_literal(value: Any, expected: Any) -> str:
    options = [expected, *typing.get_args(expected)]
    literals = [typing.get_args(o) for o in options if typing.get_origin(o) is typing.Literal]
    if not literals or not isinstance(value, str):
        return ""
    return f"; {nearest(value, literals[0])}"


@functools.cache
def _adapter(expected: Any) -> TypeAdapter | None:
    try:
        return TypeAdapter(expected, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        return None


def _describe(expected: Any) -> str:
    if typing.get_origin(expected) is typing.Literal:
        return f"one of {', '.join(map(str, typing.get_args(expected)))}"
    if typing.get_origin(expected) in (list, tuple, collections.abc.Sequence):
        return _describe_list(expected)
    if typing.get_origin(expected) in (typing.Union, types.UnionType):
        # A tensor cannot be given in a file or on the command line.
        options = [o for o in typing.get_args(expected) if getattr(o, "__name__", "") != "Tensor"]
        return " or ".join(dict.fromkeys(map(_describe, options)))
    names = {type(None): "null", bool: "true or false", int: "a whole number", float: "a number"}
    names[str] = "text"
    return names.get(expected) or getattr(expected, "__name__", None) or str(expected)


def _describe_list(expected: Any) -> str:
    """``a list of 2 numbers``, ``a list of texts``, or just ``a list`` if unknown."""
    items = [item for item in typing.get_args(expected) if item is not Ellipsis]
    each = {_describe(item).removeprefix("a ") for item in items}
    if len(each) != 1 or not (kind := each.pop()).endswith(("number", "text")):
        return "a list"
    count = len(items) if typing.get_origin(expected) is tuple and len(items) > 1 else ""
    return f"a list of {count} {kind}s".replace("  ", " ")
