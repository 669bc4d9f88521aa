"""The tables and the figure of README.md, made from the CSV files beside it."""

from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).parent
OURS, PEER, OLDER = "rarelab", "imbalanced-losses", "proxy-losses"
KEYS = ["loss", "classes", "batch", "queue", "rate", "tau"]
NAMES = {"smooth_ap": "Smooth-AP", "recall_at_quantile": "recall"}
ASKED = (  # loss, classes, batch, queue, rate, target speed-up over the peer
    ("smooth_ap", 1, 256, 1024, 0.005, 1),
    ("smooth_ap", 1, 256, 1024, 0.05, 1),
    ("smooth_ap", 1, 1024, 16384, 0.01, 3),
    ("smooth_ap", 1, 1024, 65536, 0.005, 30),
    ("smooth_ap", 1, 1024, 65536, 0.1, 500),
    ("smooth_ap", 100, 256, 4096, 0.01, 5),
    ("recall_at_quantile", 1, 256, 1024, 0.005, 2),
    ("recall_at_quantile", 1, 256, 1024, 0.05, 2),
    ("recall_at_quantile", 1, 1024, 16384, 0.01, 2),
    ("recall_at_quantile", 1, 1024, 65536, 0.005, 2),
    ("recall_at_quantile", 1, 1024, 65536, 0.1, 2),
    ("recall_at_quantile", 100, 256, 4096, 0.01, 10),
)


def results() -> pd.DataFrame:
    """One row per work, with columns (quantity, library)."""
    table = pd.read_csv(HERE / "result.csv")
    return table.pivot(index=KEYS, columns="library", values=["ms", "peak_mb"])


def asked(table: pd.DataFrame) -> str:
    """Target and measured speed-up over the peer at τ = .01."""
    lines = [
        "| task (τ = .01) | target speed-up | measured | rarelab, ms | peer, ms |",
        "|---|---|---|---|---|",
    ]
    for loss, classes, batch, queue, rate, aim in ASKED:
        row = table.loc[(loss, classes, batch, queue, rate, 0.01)]
        ours, peer = row["ms", OURS], row["ms", PEER]
        what = f"{100 * rate:g} %" if classes == 1 else f"{classes} classes"
        lines.append(
            f"| {NAMES[loss]}, {batch} + {queue}, {what} | {aim} x | {peer / ours:.2f} x "
            f"| {ours:.2f} | {peer:.2f} |"
        )
    return "\n".join(lines)


def million(table: pd.DataFrame) -> str:
    """The largest pool, and how time grows with pool size."""
    large = table.loc[("smooth_ap", 1, 1024, 1047552, 0.005, 0.01)]
    small = table.loc[("smooth_ap", 1, 1024, 130048, 0.005, 0.01)]
    ours = large["ms", OURS]
    return (
        f"Smooth-AP on 1 048 576 rows at 0.5 %: {ours:.0f} ms and {large['peak_mb', OURS]:.0f} MB "
        f"of extra memory; a single pair matrix of the peer would be 22 GB. From 131 072 to "
        f"1 048 576 rows, 8 times the work, the time grows {ours / small['ms', OURS]:.1f}-fold."
    )


def everything(table: pd.DataFrame) -> str:
    """All medians, in milliseconds, and peak memory at τ = .01."""
    lines = [
        "| loss | classes | pool | positives | τ | rarelab, ms | imbalanced, ms | proxy, ms "
        "| rarelab, MB | imbalanced, MB | proxy, MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key, row in table.iterrows():
        loss, classes, batch, queue, rate, tau = key  # type: ignore[misc]
        figures = [_figure(row["ms", name], ".2f") for name in (OURS, PEER, OLDER)]
        figures += [_figure(row["peak_mb", name], ".0f") for name in (OURS, PEER, OLDER)]
        share = f"{100 * rate:g} %"
        pool = f"{batch + queue}"
        lines.append(
            f"| {NAMES[loss]} | {classes} | {pool} | {share} | {tau:g} | {' | '.join(figures)} |"
        )
    return "\n".join(lines)


def retrieved() -> str:
    """The comparison on pytorch-metric-learning's task."""
    table = pd.read_csv(HERE / "retrieval.csv").pivot(index="rows", columns="library", values="ms")
    lines = [
        "| rows in the batch | rarelab, ms | pytorch-metric-learning, ms |",
        "|---|---|---|",
    ]
    for rows, row in table.iterrows():
        lines.append(f"| {rows} | {row[OURS]:.1f} | {row['pytorch-metric-learning']:.1f} |")
    return "\n".join(lines)


def _figure(value: Any, form: str) -> str:
    return "–" if pd.isna(value) else format(value, form)


def sections() -> dict[str, str]:
    """The generated parts of README.md by name."""
    table = results()
    return {
        "asked": asked(table),
        "million": million(table),
        "retrieval": retrieved(),
        "everything": everything(table),
    }


def write() -> None:
    """Update the generated parts of README.md and the figure."""
    import figure

    path = HERE / "README.md"
    text = path.read_text(encoding="utf-8")
    for name, content in sections().items():
        begin, end = f"<!-- {name} -->\n", "<!-- end -->"
        head, tail = text.split(begin)
        text = f"{head}{begin}{content}\n{end}{tail.partition(end)[2]}"
    path.write_text(text, encoding="utf-8")
    figure.draw(results(), HERE / "growth.png")


if __name__ == "__main__":
    write()
