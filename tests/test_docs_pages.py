"""README and docs/: every command composes, and docs/losses.md covers every loss."""

import re
import shlex
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from rarelab.config.compose_many import Composer, loader
from rarelab.models import TabM
from rarelab.models.embeddings import NumberEmbeddings
from rarelab.search.cells import read_cells
from rarelab.search.contest_plan import plan_contest
from rarelab.search.space import read_space
from rarelab.sweep.overrides import expand, is_of_a_job, quoted_arms, quoted_space
from rarelab.sweep.plan import Planner
from rarelab.sweep.settings import settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = [
    line
    for page in PAGES
    for block in re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("rarelab train") and "--config-dir" not in line
]


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    with loader() as found:
        yield Composer(found)


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_a_documented_command_plans_and_passes_the_checks(
    command: str, composer: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # The members of a documented ensemble are not recorded here.
    monkeypatch.setattr("rarelab.sweep.plan.name_members", lambda cfg, data: False)
    rows = (
        f"{i},c{i % 9},{i / 7:.2f},{i % 6},2026-01-{1 + i % 28:02},{i % 5 == 0:d}"
        for i in range(60)
    )
    lines = [f"{row},{'fraud' if row.endswith('1') else 'fine'}\n" for row in rows]
    text = "".join(["id,customer,payment,legacy_score,date,is_fraud,verdict\n", *lines])
    for name in ("my.csv", "cards.csv"):
        Path(name).write_text(text, encoding="utf-8")
    arguments = [quoted_space(quoted_arms(part)) for part in shlex.split(command)[2:]]
    lines = [argument for argument in arguments if argument != "-m"]
    base = composer.sweep(lines)
    search = settings(base).contest
    if search.trials is not None:
        study = base.hydra.sweeper.get("params") or {}
        cells = read_cells(composer.parser, study, lines, settings(base))
        arms = list({cell.arm: cell for cell in cells}.values())
        assert len(arms) > 1
        assert plan_contest(Planner(composer, "/records", "rarelab"), arms, search).trials
        return
    if "hydra/sweeper=optuna" in lines:
        typed = composer.parser.parse_overrides(lines)
        space = read_space(filter(is_of_a_job, typed))
        jobs = [tuple([*space.fixed, *corner]) for corner in space.corners()]
    else:
        study = base.hydra.sweeper.get("params") or {}
        jobs = expand(composer.parser, study, lines, settings(base))
    assert len(jobs) > 1 or "-m" not in arguments
    # Jobs that differ in their seed alone are planned once.
    others = [s for s in {*chain(*jobs)} - {*jobs[0]} if s.startswith("seed=")]
    jobs = [job for job in jobs if not {*others} & {*job}]
    assert Planner(composer, "/records", "rarelab").jobs(jobs)


def test_the_pages_name_every_loss_and_only_files_that_exist() -> None:
    page = (ROOT / "docs" / "losses.md").read_text("utf-8")
    for leaf in (ROOT / "conf" / "loss").glob("*.yaml"):
        name = leaf.stem.removesuffix("_iqr")
        assert f"`{name}`" in page or f"={name}" in page, name
    for each in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", each.read_text("utf-8")):
            assert (each.parent / target).exists(), target


def test_the_page_of_networks_states_the_defaults() -> None:
    page = (ROOT / "docs" / "networks.md").read_text("utf-8")
    leaf = yaml.safe_load((ROOT / "conf" / "model" / "tabm.yaml").read_text("utf-8"))
    stated = re.findall(r"`model\.(\w+)=(\d+)` per|`model\.(\w+)` \(([\d.]+)\)", page)
    stated = dict((a or b, float(x or y)) for a, x, b, y in stated)
    assert stated == {name: leaf[name] for name in ("embedding_bins", "d_block", "dropout")}
    assert f"k = {leaf['k']} networks" in page
    edges = [[0.0, 1.0, 2.0]]
    for kind in ("piecewise_linear", "periodic"):
        (width,) = NumberEmbeddings(kind, edges).widths
        assert re.search(rf"^\| `{kind}` \| .* \| {width} \|$", page, flags=re.MULTILINE)
    kinds: list[dict[str, Any]] = [{"num_embeddings": None}, {"bin_edges": edges}]
    blocks = [len(TabM(1, 1, k=2, one_hot=[], **more).body.blocks) for more in kinds]
    assert f"`model.n_blocks` (`null`: {blocks[0]}, with embeddings {blocks[1]})" in page
