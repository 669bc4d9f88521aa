"""Who may import whom: the house's walls."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
MODULES = sorted(SOURCE.rglob("*.py"))

# A library -> the only parts of the package that may import it.
HOMES = {
    "hydra": ("build", "cli", "compose", "search", "sweep", "hydra_plugins"),
    "mlflow": ("tracking", "compare/load"),
    "sklearn": ("data", "models", "calibration", "compare"),
    "matplotlib": ("figures", "compare", "search/picture", "ledger/pages"),
    "optuna": ("search",),
    "ray": ("hydra_plugins",),
    "submitit": ("hydra_plugins",),
}
# A part -> the parts of this package that it may import (errors is everybody's).
DIRECTION = {
    "functional": {"functional"},
    "distributed": {"distributed"},
    "losses": {"losses", "functional", "distributed"},
    "data": {"data", "paths"},
    "models": {"models", "data"},
    "training": {"training", "data", "distributed", "losses", "metrics", "streams"},
    "tracking": {"tracking", "training", "paths"},
    "predict": {
        "predict",
        "build",
        "calibration",
        "costs",
        "check",
        "data",
        "metrics",
        "models",
        "training",
        "tracking",
        "tie_groups",
    },
    "ledger": {"ledger", "api", "compare", "paths", "sweep", "tracking"},
    "compare": {"compare", "tracking", "paths", "bootstrap", "tie_groups", "training"},
}


def _part(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    inside = relative.parts[1:] if relative.parts[0] == "rarelab" else relative.parts
    return "/".join(inside).removesuffix(".py")


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=_part)
def test_a_library_stays_in_its_part(path: Path) -> None:
    for name in _imports(path):
        homes = HOMES.get(name.partition(".")[0])
        if homes is not None:
            assert _part(path).startswith(homes), f"{_part(path)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=_part)
def test_imports_follow_the_direction(path: Path) -> None:
    allowed = DIRECTION.get(_part(path).partition("/")[0])
    if allowed is None:
        return
    for name in _imports(path):
        if name.startswith("rarelab."):
            target = name.split(".")[1]
            assert target in allowed | {"errors", "__version__"}, f"{_part(path)} imports {name}"
