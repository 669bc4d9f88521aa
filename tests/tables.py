"""Raw tables, one row per case, that several tests write to files and read back."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd


def claims(n: int = 400) -> pd.DataFrame:
    """Numbers, text, missing values, an identifier, a group, a date and a weight."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": [f"c{i}" for i in range(n)],
            "amount": np.where(rng.random(n) < 0.1, np.nan, rng.lognormal(size=n).round(3)),
            "region": rng.choice(["north", "south", None], n),
            "code": rng.integers(1, 4, n),
            "customer": rng.integers(0, 60, n),
            "day": pd.date_range("2024-01-01", periods=n)[rng.permutation(n)].strftime("%Y-%m-%d"),
            "weight": rng.uniform(1, 2, n).round(2),
            "fraud": np.where(rng.random(n) < 0.2, "yes", "no"),
        }
    )


def transactions(n: int = 1500) -> pd.DataFrame:
    """Numbers, numeric-looking text, codes and booleans, all with missing values."""
    draw = np.random.default_rng(0)
    amount = draw.lognormal(3, 1, n)
    risk = amount * draw.lognormal(0, 1, n)
    return pd.DataFrame(
        {
            "id": np.arange(n),
            "amount": np.where(draw.random(n) < 0.1, np.nan, amount),
            "country": draw.choice(["DE", "FR", "IT", None], n),
            "zip": draw.choice(["007", "0123", "A12", "99"], n),
            "age": draw.integers(18, 80, n),
            "member": draw.random(n) < 0.5,
            "shop": draw.integers(0, 5, n),
            "verdict": np.where(risk > np.quantile(risk, 0.93), "fraud", "fine"),
        }
    )


def zoo(n: int = 400) -> pd.DataFrame:
    """A column of every kind a table can hold, most with missing values, and the label ``y``."""
    draw = np.random.default_rng(0)
    small = draw.integers(0, 5, n)
    columns = {
        "whole": small,
        "real": draw.normal(size=n),
        "tiny": 1e-9 * draw.random(n),
        "truth": draw.random(n) < 0.5,
        "TRUTH": draw.choice(["TRUE", "FALSE"], n),
        "word": draw.choice(["x", "y"], n),
        "digits": draw.choice(["007", "7", "07a"], n),
        "decimals": draw.choice(["1.50", "2", "many"], n),
        "spaces": draw.choice([" a", "a ", "a"], n),
        "verity": draw.choice(["True", "False", "unknown"], n),
        "huge": [10**19 * 3 + int(i) for i in small],
        "code": draw.integers(0, 4, n),
        "decimal code": draw.integers(0, 4, n).astype(float),
        "duration": [pd.Timedelta(seconds=int(i)) for i in small],
        "day": [datetime.date(2024, 1, 1 + int(i)) for i in small],
        "hour": [datetime.time(int(i)) for i in small],
        "moment": [f"2024-01-{1 + int(i):02d} 00:00:00" for i in small],
        "price": [Decimal(int(i)) / 4 for i in small],
    }
    gaps = {
        f"{name} or not": [None if i % 6 == 5 else value for i, value in enumerate(values)]
        for name, values in columns.items()
    }
    gaps = {name: pd.Series(values, dtype=object) for name, values in gaps.items()}
    label = (draw.random(n) < 0.15) | (columns["truth"] & (draw.random(n) < 0.3))
    return pd.DataFrame({**columns, **gaps, "nothing": [None] * n, "y": label.astype(int)})
