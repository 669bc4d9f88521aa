"""The figures quoted in the documents match the committed measurements."""

import csv
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
from scipy import stats

ROOT = Path(__file__).parent.parent
GROUPS = ROOT / "experiments" / "bench_compare" / "groups.csv"
KERNELS, QUEUE = ROOT / "experiments" / "bench_kernels", ROOT / "experiments" / "bench_queue"


def script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where a dataclass looks for its module.
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def report() -> ModuleType:
    return script(KERNELS / "report.py")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_tables_of_the_kernels_study_match_its_csv() -> None:
    text = (KERNELS / "README.md").read_text(encoding="utf-8")
    for name, content in report().sections().items():
        assert f"<!-- {name} -->\n{content}\n<!-- end -->" in text, name
    assert (KERNELS / "growth.png").is_file()


def test_the_releases_table_holds_the_figures_of_the_committed_measurements() -> None:
    release = script(ROOT / "experiments" / "release.py")
    figures, kept = release.found(), pd.read_csv(release.KEPT)
    pd.testing.assert_frame_equal(figures, kept)
    assert len(figures) == len(release.FIGURES)
    for row, line in zip(
        figures.itertuples(), release.text(figures, kept).splitlines()[1:], strict=True
    ):
        assert line.startswith(row.figure) and line.count(f"{row.value:.2f}") >= 2
        assert line.endswith("missed") == row.missed
    for figure in release.FIGURES:
        beyond = figure.limit * (1.01 if figure.sense == "at most" else 0.99)
        assert figure.missed(beyond) and not figure.missed(figure.limit)


def test_the_readme_states_the_trainers_overhead_as_measured() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in rows(ROOT / "experiments" / "bench_trainer" / "result.csv"):
        assert f"| {row['loop']} | {row['ms_per_step']} | {row['times_bare']} |" in text


def test_the_study_covers_what_it_claims() -> None:
    found = rows(KERNELS / "result.csv")
    assert {row["library"] for row in found} == {"rarelab", "imbalanced-losses", "proxy-losses"}
    pools = {int(row["batch"]) + int(row["queue"]) for row in found}
    assert min(pools) == 1280 and max(pools) == 1_048_576
    assert {row["classes"] for row in found} == {"1", "10", "100"}
    assert {row["tau"] for row in found} == {"0.01", "0.5"}
    binary = {row["rate"] for row in found if row["classes"] == "1"}
    assert {"0.005", "0.05", "0.1"} <= binary
    assert all(row["ms"] for row in found if row["library"] == "rarelab")


def test_the_readme_states_the_queues_cost_as_measured() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in rows(QUEUE / "result.csv"):
        stated = re.search(
            rf"^\| `{row['queue_size']}` \| ([\d.]+) ms \| ([\d.]+) \[([\d.]+), ([\d.]+)\] \|$",
            text,
            flags=re.MULTILINE,
        )
        assert stated is not None, row
        assert stated.groups() == tuple(
            row[key] for key in ("ms_per_step", "test_aucpr", "lowest", "highest")
        )


def test_the_page_on_statistics_states_the_verdicts_over_splits_as_measured() -> None:
    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    for row in rows(ROOT / "experiments" / "bench_compare" / "splits.csv"):
        shares = [f"{row[key]} %" for key in ("claims", "equal_at_margin", "equal")]
        cells = [row["splits"], row["features"], *shares]
        assert f"| {' | '.join(cells)} | {row['correlation']} / {row['assumed']} |" in text


def test_the_page_of_statistics_states_the_coverage_of_groups_as_measured() -> None:
    text = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows(GROUPS):
        law = found.setdefault((row["correlation"], row["shifts"]), {})
        law[row["drawn"]] = float(row["covered"])
        studies = int(row["studies"])
    assert len(found) == 3
    low, high = (stats.binom.ppf(q, studies, 0.95) / studies for q in (0.005, 0.995))
    for (correlation, shifts), covered in found.items():
        whole, single = covered["whole groups"], covered["rows one by one"]
        assert (
            f"| {correlation} | {shifts} | {whole:.1%} | {single:.1%} |".replace("%", " %") in text
        )
        assert low <= whole <= high and (correlation == "0.0" or single < 0.8)


def test_the_boosting_page_states_the_costs_as_measured() -> None:
    text = (ROOT / "docs" / "boosting.md").read_text(encoding="utf-8")
    measured = rows(ROOT / "experiments" / "bench_boosting" / "result.csv")
    assert {row["what"].split()[0] for row in measured} == {"gradient", "kdd_census", "million"}
    for row in measured:
        cells = [row[key] for key in ("what", "rows", "columns", "positives", "tau", "threads")]
        cells += [f"{row['ms']} ms", f"{row['reference_ms']} ms", row["ratio"]]
        assert f"| {' | '.join(cells)} |".replace("|  |", "| |") in text, row


def test_the_page_on_networks_states_what_they_reached_and_cost_as_measured() -> None:
    text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    networks = script(ROOT / "experiments" / "bench_networks" / "run.py")
    assert networks.table(networks.results()) in text
    for option in networks.TABM:
        assert option in text, option


def test_the_page_on_networks_states_the_cost_of_embedded_categories_as_measured() -> None:
    text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    spent = {
        (row["model"], row["variant"]): float(row["cpu_ms_per_step"])
        for row in rows(ROOT / "experiments" / "bench_networks" / "steps.csv")
    }
    stated = re.search(
        r"step of `tabm` takes ([\d.]+) times.*?`mlp` ([\d.]+) times", text, re.DOTALL
    )
    assert stated is not None
    for model, ratio in zip(("tabm", "mlp"), stated.groups(), strict=True):
        found = spent[model, "cat_embeddings=auto"] / spent[model, "one-hot"]
        assert abs(found - float(ratio)) < 0.05 * found
