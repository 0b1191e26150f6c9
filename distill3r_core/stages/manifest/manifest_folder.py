"""What a manifest's folder holds already: settings, roots, rows and rejected files."""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from distill3r_core import config
from distill3r_core.data.frame_processing import RECORD, Processing
from distill3r_core.data.layouts import LeftOut, Refused
from distill3r_core.data.layouts.folders import shown
from distill3r_core.data.listing import DatasetListing
from distill3r_core.data.manifest import ManifestRow, iter_rows, manifest_order, read_rows
from distill3r_core.data.manifest_checksum import MANIFEST_CHECKSUM
from distill3r_core.errors import ConfigError, ConflictError, DamageError
from distill3r_core.files import write_text
from distill3r_core.io.checksums import file_hash, read_sealed, write_sealed
from distill3r_core.untrusted.printable import printable_name

COLMAP = "colmap"  # the value of `--poses`, and the folder of its results
MANIFEST, REJECTED = "manifest.csv", "rejected.csv"
_PLANS = "plans"  # key of the record: digests of what the rows take from the plans
_REPLACE = "replace it with --overwrite, or choose another folder with -o"


@dataclass(frozen=True)
class EarlierManifest:
    """What earlier runs left in a folder.

    Args:
        settings: Those that change the result, as plain data.
        roots: Data set names by the path of their root.
        rows: Rows of the manifest in its order, but for those of roots that are made anew.
        rejected: Lines of `rejected.csv`.
        digest: Hash of the manifest as it is on the disk, where that is what was written.
        plans: Digests of the plans of its data sets, by their names.
        forgotten: Roots of a manifest of other settings, which this run replaces.
    """

    settings: Mapping[str, Any]
    roots: Mapping[str, Sequence[str]]
    rows: Iterable[ManifestRow] = ()
    rejected: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    plans: Mapping[str, str] = field(default_factory=dict)
    forgotten: tuple[str, ...] = ()

    def holds(self, roots: Mapping[str, Sequence[str]], plans: Mapping[str, str]) -> bool:
        """Whether the manifest on the disk has the rows of data sets that are planned so.

        That is so only if none of their frames was processed since it was written.
        """
        same_names = all(self.roots.get(root) == list(names) for root, names in roots.items())
        same_plans = all(self.plans.get(name) == plan for name, plan in plans.items())
        return bool(self.digest) and same_names and same_plans

    def without(self, roots: Collection[str], places: Collection[str] = ()) -> "EarlierManifest":
        """What is left when the data sets of some roots are made anew.

        Args:
            roots: They are made anew.
            places: Other folders that their files are in.
        """
        names = {name for root in roots for name in self.roots.get(root, ())}
        return replace(
            self,
            roots={root: names for root, names in self.roots.items() if root not in roots},
            rows=_KeptRows(self.rows, frozenset(names)),
            rejected=tuple(
                line
                for line in self.rejected
                if not any(_below(line[0], place) for place in (*roots, *places))
            ),
        )


@dataclass(frozen=True)
class _KeptRows:
    """Rows without those of some data sets; read anew each time, if they come from a file."""

    rows: Iterable[ManifestRow]
    left_out: frozenset[str]

    def __iter__(self) -> Iterator[ManifestRow]:
        return (row for row in self.rows if row.dataset not in self.left_out)


@dataclass(frozen=True)
class _StoredRows:
    """Rows of a manifest that is as it was written; they are not held in memory."""

    path: Path
    left_out: frozenset[str]

    def __iter__(self) -> Iterator[ManifestRow]:
        return iter_rows(self.path, leave=self.left_out)


def read_before(
    folder: Path,
    settings: Mapping[str, Any],
    *,
    overwrite: bool,
    remade: Collection[str] = (),
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> EarlierManifest:
    """What earlier runs left in a folder, if this one may add to it.

    Args:
        folder: Folder of the manifest.
        settings: Settings of this run that change the result.
        overwrite: Forget a manifest that was made with others.
        remade: Roots whose rows this run makes anew: they are not read, unless the manifest has
            been edited since.
        defaults: Values of settings that a manifest does not name: it is older than they are.

    Raises:
        ConflictError: A manifest is there that was made with other settings or by something else.
    """
    path = folder / MANIFEST
    fresh = EarlierManifest(settings, {})
    if not path.is_file():
        return fresh
    try:
        record = read_sealed(folder / RECORD, required=False)
        found, roots, plans = record["settings"], record["roots"], record.get(_PLANS, {})
    except (FileNotFoundError, DamageError, KeyError, TypeError) as error:
        if overwrite:
            return fresh
        raise ConflictError(
            f"{path} was not written by `distill3r manifest`",
            hint="choose another folder with -o, or replace it with --overwrite",
        ) from error
    found = {**{name: defaults[name] for name in settings if name in defaults}, **found}
    if found != settings:
        if overwrite:
            return replace(fresh, forgotten=tuple(roots))
        lines = config.differences(found, settings)
        raise ConflictError(
            f"{path} was made with other settings:\n" + "\n".join(f"  {line}" for line in lines),
            hint="choose another folder with -o, or replace it with --overwrite",
        )
    try:
        digest = file_hash(path)
        whole = digest == record.get(MANIFEST_CHECKSUM)
        leave = {name for root in remade for name in roots.get(root, ())} if whole else set()
        named = {name for names in roots.values() for name in names}
        rows: Iterable[ManifestRow] = ()
        if not whole:
            rows = sorted(read_rows(path), key=manifest_order)
        elif named - leave:
            rows = _StoredRows(path, frozenset(leave))
    except ConfigError as error:
        if overwrite:
            return replace(fresh, forgotten=tuple(roots))
        raise ConfigError(error.message, hint=_REPLACE) from error
    return EarlierManifest(
        settings, roots, rows, _read_rejected(folder), digest if whole else "", plans
    )


def write_record(
    folder: Path,
    before: EarlierManifest,
    roots: Mapping[str, Sequence[str]],
    processing: Processing,
    digest: str,
    *,
    plans: Mapping[str, str],
) -> None:
    """Write settings, roots, how frames were processed, and the checksum of the manifest."""
    others = {name for names in before.roots.values() for name in names}
    record = {
        "settings": dict(before.settings),
        "processing": config.as_plain(processing),
        "roots": {**before.roots, **roots},
        MANIFEST_CHECKSUM: digest,
        _PLANS: {**{name: before.plans[name] for name in others if name in before.plans}, **plans},
    }
    write_sealed(folder / RECORD, record)


def write_rejected(
    folder: Path, before: EarlierManifest, refused: Sequence[Refused | LeftOut]
) -> None:
    """Write what was left out, with the lines of other roots."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "reason"))
    writer.writerows(before.rejected)
    writer.writerows(
        (printable_name(shown(item.path)), printable_name(item.reason)) for item in refused
    )
    write_text(folder / REJECTED, text.getvalue())


def with_own_names(
    scans: Sequence[tuple[str, DatasetListing]], before: EarlierManifest
) -> list[tuple[str, DatasetListing]]:
    """The data sets, each under a name that no other one has.

    A root keeps the names it had; a new one gets `-2`, `-3` ... where its name is taken.

    Args:
        scans: Pairs of root and data set.
        before: This run's roots included.
    """
    mine = {root for root, _ in scans}
    taken = {name for root, names in before.roots.items() if root not in mine for name in names}
    free = {root: list(before.roots.get(root, ())) for root in mine}
    named = []
    for root, scan in scans:
        kept = next((name for name in free[root] if _is_of(name, scan.name)), None)
        if kept is not None and kept not in taken:
            free[root].remove(kept)
            name = kept
        else:
            name, number = scan.name, 2
            while name in taken:
                name, number = f"{scan.name}-{number}", number + 1
        taken.add(name)
        named.append((root, replace(scan, dataset=replace(scan.dataset, name=name))))
    return named


def _is_of(name: str, dataset: str) -> bool:
    """Whether a name in the record was made from a data set's own."""
    stem, dash, number = name.rpartition("-")
    return name == dataset or (bool(dash) and stem == dataset and number.isdecimal())


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _read_rejected(folder: Path) -> tuple[tuple[str, str], ...]:
    path = folder / REJECTED
    if not path.is_file():
        return ()
    with path.open(newline="", encoding="utf-8") as file:
        return tuple((line[0], line[1]) for line in list(csv.reader(file))[1:] if len(line) == 2)
