"""The authoritative metrics of a run: rows appended to a JSONL file as they arise."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rarelab.files import write_whole

Row = dict[str, Any]
Listener = Callable[[Row], None]


class History:
    """An append-only list of rows ``{"step", "time", "metrics"}``, one JSON line each.

    ``step`` is the epoch, ``time`` milliseconds since 1970, ``metrics`` maps a key to a float. A
    row is written to the file before any listener (the console, a tracker) is called.
    """

    def __init__(self, path: Path, listeners: list[Listener] | None = None) -> None:
        self._path = path
        self._listeners = listeners or []
        self._length = len(read_rows(path)) if path.is_file() else 0

    def __len__(self) -> int:
        return self._length

    def append(self, step: int, metrics: dict[str, float]) -> None:
        row: Row = {"step": step, "time": time.time_ns() // 1_000_000, "metrics": metrics}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._length += 1
        for listener in self._listeners:
            listener(row)

    def cut(self, length: int) -> list[Row]:
        """Drop the rows after the first ``length`` and any partial line; the remaining rows."""
        rows = read_rows(self._path)[:length] if self._path.is_file() else []
        write_whole(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        self._length = len(rows)
        return rows

    def sync(self) -> None:
        """Flush the rows to the disk itself, so that they survive a power loss."""
        if self._length:
            with self._path.open("rb") as file:
                os.fsync(file.fileno())


def read_rows(path: Path) -> list[Row]:
    """The rows of a history file, oldest first, up to the first line damaged by a crash or a power
    loss (cut short, or not text)."""
    rows = []
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line.decode("utf-8"))
        except ValueError:
            break
        if not isinstance(row, dict):
            break
        rows.append(row)
    return rows
