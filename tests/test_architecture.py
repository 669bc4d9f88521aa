"""Which modules may import which: the layers of the package, checked for every import."""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"

# From top to bottom. A module may import from its own layer and those below, never from above.
# Imports inside functions and for type checking count too.
LAYERS = (
    {"ledger"},
    {"", "__main__", "cli", "api", "request"},  # "" is `import rarelab`
    {"search", "sweep", "hydra_plugins"},
    {"runs"},
    {"compare", "dashboard", "predict"},
    {"records"},
    {"tracking"},
    {"processes"},
    {"config"},
    {"training"},
    {"boosting"},
    {"losses", "metrics", "data", "models"},
    {"functional", "figures"},
    {"collector", "errors", "files", "paths", "quoting", "streams", "version"},
)
# A library -> the only parts of the package that may import it.
HOMES = {
    "hydra": ("cli", "request", "config/", "search/", "sweep/", "hydra_plugins/"),
    "mlflow": ("tracking/", "records/", "dashboard/"),
    "sklearn": ("data/", "models/", "metrics/calibration", "compare/"),
    "skops": ("models/stored",),
    "matplotlib": ("figures/", "compare/", "search/picture", "ledger/pages"),
    "optuna": ("search/",),
    "ray": ("hydra_plugins/",),
    "submitit": ("hydra_plugins/",),
}


def _module(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in sorted(SOURCE.rglob("*.py"))}


def _part(module: str) -> str:
    """``rarelab.sweep.job`` -> ``sweep/job``."""
    package, _, inside = module.partition(".")
    return (inside if package == "rarelab" else module).replace(".", "/")


def _room(module: str) -> str:
    return _part(module).partition("/")[0]


def _imports(module: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{module} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _ours(name: str) -> str | None:
    """The module of this package that defines an imported name, or None for other libraries."""
    if name.partition(".")[0] not in ("rarelab", "hydra_plugins"):
        return None
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


GRAPH = {
    module: {found for name in _imports(module) if (found := _ours(name)) and found != module}
    for module in MODULES
}
LEVEL = {room: level for level, layer in enumerate(LAYERS) for room in layer}


@pytest.mark.parametrize("module", MODULES, ids=_part)
def test_a_library_is_imported_only_where_allowed(module: str) -> None:
    for name in _imports(module):
        homes = HOMES.get(name.partition(".")[0])
        if homes is not None:
            assert _part(module).startswith(homes), f"{module} imports {name}"


def test_every_module_belongs_to_a_layer_and_every_layer_entry_exists() -> None:
    assert {_room(module) for module in MODULES} == set(LEVEL)


@pytest.mark.parametrize("module", MODULES, ids=_part)
def test_no_import_goes_up(module: str) -> None:
    for imported in GRAPH[module]:
        assert LEVEL[_room(imported)] >= LEVEL[_room(module)], f"{module} imports {imported}"


def test_imports_have_no_cycles() -> None:
    rooms: defaultdict[str, set[str]] = defaultdict(set)
    for module, imported in GRAPH.items():
        rooms[_room(module)] |= {_room(name) for name in imported} - {_room(module)}
    for graph in (GRAPH, rooms):
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as circle:
            pytest.fail(f"circular import: {' <- '.join(circle.args[1])}")


def test_the_functional_kernels_stand_alone() -> None:
    """The kernels can be copied without the rest of the package."""
    for module in MODULES:
        if _room(module) == "functional":
            assert {_room(name) for name in GRAPH[module]} <= {"functional"}


def test_the_root_holds_only_entry_points_and_base_modules() -> None:
    loose = {path.stem for path in (SOURCE / "rarelab").glob("*.py")}
    assert loose == {
        *("__init__", "__main__", "api", "cli", "request"),
        *("collector", "errors", "files", "paths", "quoting", "streams", "version"),
    }
