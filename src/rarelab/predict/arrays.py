"""Rows that are arrays, not columns of a table: images, embeddings."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rarelab.errors import RequestError

ENDINGS = (".npy", ".npz")


@dataclass(frozen=True)
class ArrayRows:
    """Rows of one shape, taken as they are: the run's data set had no preprocessor."""

    shape: tuple[int, ...]

    def transform(self, rows: Any) -> NDArray[np.float32]:
        """The rows as float32 [N, *shape].

        Raises:
            RequestError: they are not numbers, not of this shape, or not finite.
        """
        found = np.asarray(rows)
        if found.dtype.kind not in "biuf":
            raise RequestError(f"the rows hold {found.dtype}, expected numbers")
        if found.ndim != len(self.shape) + 1 or found.shape[1:] != self.shape:
            raise RequestError(
                f"expected rows {self.text()}, as in training, found {list(found.shape)}"
            )
        if not len(found):
            raise RequestError("the array holds no rows")
        values = np.ascontiguousarray(found, dtype=np.float32)
        bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if bad.any():
            raise RequestError(
                f"{int(bad.sum())} rows hold NaN or infinite values (the first is row "
                f"{int(bad.argmax())}): replace them with numbers"
            )
        return values

    def example(self) -> NDArray[np.float32]:
        """One row of zeros."""
        return np.zeros((1, *self.shape), dtype=np.float32)

    def text(self) -> str:
        return f"[{', '.join(map(str, ('N', *self.shape)))}]"

    def read(self, path: Path) -> NDArray:
        """The array of a .npy file, or the one of a .npz file (named x, if there are more).

        Raises:
            RequestError: it is not such a file, or cannot be read without unpickling.
        """
        if path.suffix.lower() not in ENDINGS:
            raise RequestError(
                f"{path.name}: this run was trained on arrays, not on columns: expected a .npy "
                f"file with an array {self.text()}, or a .npz file with one"
            )
        try:
            found = np.load(path, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            with found:
                names = found.files
                if len(names) != 1 and "x" not in names:
                    raise RequestError(
                        f"{path.name}: expected one array or one named 'x', found {names}"
                    )
                return found["x" if "x" in names else names[0]]
        except RequestError:
            raise
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise RequestError(
                f"{path.name} cannot be read: {str(error).splitlines()[0]}"
            ) from None
