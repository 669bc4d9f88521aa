"""Tables that cannot be trained on, by file name, for the tests that need them."""

import gzip
from pathlib import Path

HEADER = "a,b,y\n"


def rows(n: int = 40, a: str = "{i}", b: str = "{r}", y: str = "{l}") -> str:
    """``n`` rows; i is the row number, r an unordered number, l is 1 in every fourth row."""
    return "".join(
        ",".join(cell.format(i=i, r=i * 7 % 11, l=int(i % 4 == 0)) for cell in (a, b, y)) + "\n"
        for i in range(n)
    )


GOOD = HEADER + rows()
FILES: dict[str, bytes] = {
    "good.csv": GOOD.encode(),
    "empty.csv": b"",
    "blank.csv": b"\n\n\n",
    "header.csv": HEADER.encode(),
    "one_row.csv": (HEADER + rows(1)).encode(),
    "few_rows.csv": (HEADER + rows(5)).encode(),
    "ragged.csv": (HEADER + rows(20) + "1,2,3,4,5\n" + rows(5)).encode(),
    "zeros.csv": b"\0" * 2000,
    "quote.csv": (HEADER + rows(10) + '"never closed,1,0\n').encode(),
    "twice.csv": ("a,a,y\n" + rows()).encode(),
    "constant.csv": (HEADER + rows(a="7", b="x")).encode(),
    "all_missing.csv": (HEADER + rows(a="", b="")).encode(),
    "target_only.csv": ("y\n" + "".join(f"{int(i % 4 == 0)}\n" for i in range(40))).encode(),
    "infinite.csv": (HEADER + rows(30) + rows(3, b="inf") + rows(2, b="-inf")).encode(),
    "huge.csv": (HEADER + rows(37) + rows(3, a="1e39")).encode(),
    "one_class.csv": (HEADER + rows(y="0")).encode(),
    "no_target.csv": (HEADER + rows(y="")).encode(),
    "some_target.csv": (HEADER + rows(30) + rows(4, y="")).encode(),
    "one_positive.csv": (HEADER + rows(39, y="0") + rows(1, y="1")).encode(),
    "ids_as_classes.csv": (HEADER + rows(y="c{i}")).encode(),
    "text_target.csv": (HEADER + rows(y="no") + rows(y="yes")).encode(),
    "weights.csv": (
        "a,b,y,w\n" + "".join(f"{i},{i % 5},{i % 4 == 0:d},-1\n" for i in range(40))
    ).encode(),
    "broken.parquet": b"PAR1 this is no parquet file PAR1",
    "cut.csv.gz": gzip.compress(GOOD.encode(), mtime=0)[:-20],
    "table.xlsx": b"PK\3\4",
}


def write(folder: Path) -> None:
    """Write all the files into a folder."""
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
