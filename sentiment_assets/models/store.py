"""The model store: a folder of immutable versions, and a pointer to the chosen one that moves atomically.

Belongs here: files, their integrity, the pointer and its history.
Does not belong here: which model deserves to be chosen (``selection``).
"""

import hashlib
import logging
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path

from filelock import FileLock, Timeout
from fsspec.core import url_to_fs
from pydantic import BaseModel, ConfigDict, ValidationError

from sentiment_assets import __version__
from sentiment_assets.failures import ModelError
from sentiment_assets.models.manifest import Draft, Kind, Manifest, Scorer, Source
from sentiment_assets.settings import is_local

__all__ = ["Draft", "Manifest", "ModelStore", "Promotion", "Scorer", "Source"]

logger = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_POINTER = "chosen.json"
_COMPILED = "compiled"
_SCORER = "scorer.json"
_STAGING = ".staging-"
_PINNED = ("pyspark", "delta-spark", "numpy")
_LOCK_SECONDS = 30
_KEPT_PROMOTIONS = 6
"""The chosen one and the five before it."""
BY_HAND = "promoted by a person"
_NOT_COMPILED = "it was not compiled"
_HISTORY = 100
_ABANDONED_SECONDS = 86_400
_RETRAIN = "Run `sentiment-assets train`, or promote another version (`sentiment-assets models list`)."


class Promotion(BaseModel):
    """One entry of the pointer's history."""

    model_config = ConfigDict(frozen=True)

    version: str
    at: datetime
    reason: str
    withdrawn: bool = False


class _Pointer(BaseModel):
    version: str | None = None
    history: list[Promotion] = []


class ModelStore:
    """Versions of fitted models under one folder; safe for several processes of this machine at once.

    Parameters
    ----------
    root
        ``SENTIMENT_HOME/models``, or a URI of an object store; created when the first model is saved.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def save(self, draft: Draft, write: Callable[[Path], object]) -> Manifest:
        """Store a model as a new version that appears complete or not at all.

        Parameters
        ----------
        draft
            What is known about it.
        write
            Writes the model's files into the folder it is given.

        Raises
        ------
        ModelError
            When the folder cannot be written.
        """
        created = datetime.now(UTC)
        version = f"{created:%Y%m%d-%H%M%S}-{_slug(draft.name)}-{secrets.token_hex(2)}"
        if not is_local(self.root):
            return self._save_objects(draft, version, created, write)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self.root))
        except OSError as error:
            raise self._cannot_write(error) from error
        try:
            write(staging)
            manifest = _manifest_of(draft, version, created, staging)
            (staging / _MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
            _flush(staging)
            staging.chmod(0o755)
            staging.replace(self.root / version)
            _flush_entry(self.root)
        except OSError as error:
            raise self._cannot_write(error) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return manifest

    def _save_objects(
        self, draft: Draft, version: str, created: datetime, write: Callable[[Path], object]
    ) -> Manifest:
        """An object store renames nothing in one step: the manifest, written last, makes the version exist."""
        folder = self.root / version
        try:
            write(folder)
            manifest = _manifest_of(draft, version, created, folder)
            (folder / _MANIFEST).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        except OSError as error:
            raise self._cannot_write(error) from error
        return manifest

    def manifest(self, version: str) -> Manifest:
        """The record of a version.

        Raises
        ------
        ModelError
            When there is no such version or its manifest is damaged.
        """
        # A name, not a path: one from a command line cannot point outside of the store, and the pointer,
        # which is compared with it, never names a version in two ways.
        path = self.root / (Path(version).name or "-") / _MANIFEST
        try:
            if path.parent.name != version:
                raise FileNotFoundError(path)
            return Manifest.model_validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ModelError(f"There is no model {version!r} in {self.root}.", _RETRAIN) from error
        except (ValidationError, OSError) as error:
            raise ModelError(f"The manifest {path} is damaged ({_first_line(error)}).", _RETRAIN) from error

    def folder(self, version: str, *, deep: bool = False) -> Path:
        """Folder of a version whose files are all there.

        Parameters
        ----------
        deep
            Compare hashes too, not only sizes.

        Raises
        ------
        ModelError
            When the version or one of its files is missing or has changed.
        """
        folder = self.root / version
        self._verify(folder, self.manifest(version).files, version, deep=deep)
        return folder

    def attach_scorer(self, version: str, write: Callable[[Path], Scorer]) -> Scorer:
        """Put compiled tables beside a version, in place of earlier ones, complete or not at all.

        Parameters
        ----------
        write
            Writes the tables into the folder it is given and says what they are worth; tables that may not serve
            are not kept.

        Raises
        ------
        ModelError
            When there is no such version, or the store cannot be written.
        """
        target = self.root / self.manifest(version).version / _COMPILED
        try:
            staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=self.root))
        except OSError as error:
            raise self._cannot_write(error) from error
        try:
            scorer = write(staging)
            if not scorer.compiled:
                shutil.rmtree(staging)
                staging.mkdir()
            scorer = scorer.model_copy(update={"files": _files(staging)})
            (staging / _SCORER).write_text(scorer.model_dump_json(indent=1), encoding="utf-8")
            _flush(staging)
            staging.chmod(0o755)
            with self._lock():
                old = self.root / f"{_STAGING}{secrets.token_hex(4)}"
                if target.exists():
                    target.replace(old)
                staging.replace(target)
                _flush_entry(target.parent)
                shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise self._cannot_write(error) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return scorer

    def scorer(self, version: str, *, deep: bool = False) -> tuple[Scorer, Path]:
        """How a version is applied, and the folder of its tables.

        A version that was never compiled, or whose tables are damaged, is applied by its pipeline and says so.

        Parameters
        ----------
        deep
            Compare hashes too, not only sizes.

        Raises
        ------
        ModelError
            When there is no such version.
        """
        folder = self.root / self.manifest(version).version / _COMPILED
        if not is_local(self.root):
            return Scorer(
                compiled=False, reason="the model store is no folder, so nothing can be mapped"
            ), folder
        try:
            scorer = Scorer.model_validate_json((folder / _SCORER).read_bytes())
            self._verify(folder, scorer.files, version, deep=deep)
        except FileNotFoundError:
            scorer = Scorer(compiled=False, reason=_NOT_COMPILED)
        except (ValidationError, OSError, ModelError) as error:
            logger.warning("The compiled tables of %s cannot be used: %s", version, error)
            scorer = Scorer(compiled=False, reason="its compiled tables are damaged")
        return scorer, folder

    def _verify(
        self, folder: Path, files: dict[str, tuple[int, str]], version: str, *, deep: bool = False
    ) -> None:
        for name, (size, digest) in files.items():
            path = folder / name
            try:
                sound = path.stat().st_size == size and (not deep or _sha256(path) == digest)
            except OSError as error:
                raise ModelError(
                    f"The model {version} lacks its file {name} ({error.strerror}).", _RETRAIN
                ) from error
            if not sound:
                raise ModelError(f"The file {name} of the model {version} has changed.", _RETRAIN)

    def versions(self, kind: Kind | None = None, name: str | None = None) -> list[Manifest]:
        """Records of all versions, the newest first; damaged ones are left out with a warning."""
        found = [
            manifest
            for manifest in self._manifests()
            if (kind is None or manifest.kind == kind) and (name is None or manifest.name == name)
        ]
        return sorted(found, key=lambda manifest: (manifest.created_at, manifest.version), reverse=True)

    def latest(
        self, kind: Kind, name: str, data_version: str | None = None, code_version: str | None = None
    ) -> Manifest | None:
        """Newest version of that name, fitted on that data by that code where they are given."""
        for manifest in self.versions(kind, name):
            if data_version in (None, manifest.data_version) and code_version in (
                None,
                manifest.code_version,
            ):
                return manifest
        return None

    def chosen(self) -> str | None:
        """Version of the chosen model, or ``None``; one read of a small file.

        Raises
        ------
        ModelError
            When the pointer is damaged.
        """
        return self._pointer().version

    def history(self) -> list[Promotion]:
        """Promotions, the newest last; ``withdrawn`` ones were rolled back."""
        return self._pointer().history

    def withdrawn(self) -> list[Manifest]:
        """Models that were rolled back and not promoted again since, as far as they are still here."""
        last = {entry.version: entry.withdrawn for entry in self.history()}
        return [manifest for manifest in self.versions("candidate") if last.get(manifest.version)]

    def promote(self, version: str, reason: str) -> None:
        """Make an intact candidate the chosen model.

        Raises
        ------
        ModelError
            When it is missing, damaged or not a candidate, or the pointer cannot be written.
        """
        with self._lock():
            self.folder(version)
            if self.manifest(version).kind != "candidate":
                raise ModelError(
                    f"{version} is a feature pipeline and cannot score.",
                    "Promote a candidate (`sentiment-assets models list`).",
                )
            self._choose(version, [*self.history(), _promotion(version, reason)])

    def rollback(self, fits: Callable[[str], None] = lambda _version: None) -> str:
        """Go back to the model that was chosen before and is still intact; again: to the one before that.

        Parameters
        ----------
        fits
            Raises a :class:`ModelError` for a version that this installation cannot serve, which is passed over.

        Raises
        ------
        ModelError
            When there is none.
        """
        with self._lock():
            history = self.history()
            current = self.chosen()
            for place in range(len(history) - 1, -1, -1):
                entry = history[place]
                if not entry.withdrawn and entry.version != current and self._intact(entry.version, fits):
                    self._choose(entry.version, history[: place + 1] + _withdrawn(history[place + 1 :]))
                    return entry.version
        raise ModelError(
            "There is no earlier chosen model to go back to.",
            "Promote a version by name: `sentiment-assets models list`, then `models promote VERSION`.",
        )

    def prune(self, keep: int = 3, *, in_use: Collection[str] = ()) -> list[str]:
        """Remove versions, except the newest ``keep`` of each name, the chosen one and those lately chosen.

        Parameters
        ----------
        in_use
            Further versions that stay.

        Returns
        -------
        list
            The versions removed.
        """
        with self._lock():
            history = self.history()
            # A rollback passes over what was rolled back before, and a version counts once.
            to_go_back_to = dict.fromkeys(entry.version for entry in reversed(history) if not entry.withdrawn)
            lately = {entry.version for entry in history[-_KEPT_PROMOTIONS:]} | {self.chosen(), *in_use}
            lately.update(list(to_go_back_to)[:_KEPT_PROMOTIONS])
            by_name: dict[tuple[str, str], list[str]] = {}
            for manifest in self.versions():
                by_name.setdefault((manifest.kind, manifest.name), []).append(manifest.version)
            old = {version for versions in by_name.values() for version in versions[keep:]} - lately
            # Of a candidate that stays, so do the features that it was made with.
            needed = {
                str(m.params.get("features")) for m in self.versions("candidate") if m.version not in old
            }
            removed = sorted(old - needed)
            for version in removed:
                self._remove(version)
            self._remove_abandoned()
        return removed

    def _remove(self, version: str) -> None:
        """A version is there as a whole or not at all, so its name or its manifest goes first."""
        folder = self.root / version
        if is_local(folder):
            trash = self.root / f"{_STAGING}{version}"
            folder.replace(trash)
            shutil.rmtree(trash, ignore_errors=True)
        else:
            (folder / _MANIFEST).unlink()
            filesystem, path = url_to_fs(str(folder))
            filesystem.rm(path, recursive=True)

    def _remove_abandoned(self) -> None:
        """What a killed process was saving; nobody saves for a day."""
        if is_local(self.root):
            for folder in self.root.glob(f"{_STAGING}*"):
                if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)

    def _manifests(self) -> Iterator[Manifest]:
        if not self.root.is_dir():
            return
        for path in self.root.iterdir():
            if path.is_dir() and not path.name.startswith("."):
                try:
                    yield self.manifest(path.name)
                except ModelError as error:
                    logger.warning("%s", error)

    def _intact(self, version: str, fits: Callable[[str], None]) -> bool:
        try:
            self.folder(version)
            fits(version)
        except ModelError as error:
            logger.warning("%s", error)
            return False
        return True

    def _pointer(self) -> _Pointer:
        path = self.root / _POINTER
        try:
            return _Pointer.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return _Pointer()
        except (ValidationError, OSError) as error:
            raise ModelError(
                f"The pointer to the chosen model, {path}, is damaged ({_first_line(error)}).",
                "Delete it and promote a version: `sentiment-assets models promote VERSION`.",
            ) from error

    def _choose(self, version: str, history: list[Promotion]) -> None:
        pointer = _Pointer(version=version, history=history[-_HISTORY:])
        try:
            if not is_local(self.root):
                (self.root / _POINTER).write_text(pointer.model_dump_json(indent=1), encoding="utf-8")
                return
            with tempfile.NamedTemporaryFile(
                "w", dir=self.root, prefix=f".{_POINTER}-", encoding="utf-8", delete=False
            ) as file:
                file.write(pointer.model_dump_json(indent=1))
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(self.root / _POINTER)
            _flush_entry(self.root)
        except OSError as error:
            raise self._cannot_write(error) from error

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            if is_local(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self._lock_file(), timeout=_LOCK_SECONDS):
                yield
        except Timeout as error:
            raise ModelError(
                f"Another process has been changing {self.root} for {_LOCK_SECONDS} s.",
                "Wait until it is done, then try again.",
            ) from error
        except OSError as error:
            raise self._cannot_write(error) from error

    def _lock_file(self) -> Path:
        """Beside the versions; for an object store on this machine, and so between its processes only."""
        if is_local(self.root):
            return self.root / ".lock"
        name = hashlib.sha256(str(self.root).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir(), f"sentiment-assets-models-{name}.lock")

    def _cannot_write(self, error: OSError) -> ModelError:
        return ModelError(
            f"The model store {self.root} cannot be written ({error.strerror or error}).",
            "Free some disk, make it writable, or point SENTIMENT_HOME at another folder.",
        )


def _manifest_of(draft: Draft, version: str, created: datetime, folder: Path) -> Manifest:
    """The record of what is in the folder."""
    return Manifest(
        **draft.model_dump(),
        version=version,
        created_at=created,
        pins={"sentiment-assets": __version__} | {name: _installed(name) for name in _PINNED},
        files=_files(folder),
    )


def _installed(package: str) -> str:
    """Version of a package; the Python folder that a cluster's own Spark brings along has no metadata."""
    try:
        return package_version(package)
    except PackageNotFoundError:
        module = sys.modules.get(package)
        return str(getattr(module, "__version__", "unknown"))


def _promotion(version: str, reason: str) -> Promotion:
    return Promotion(version=version, at=datetime.now(UTC), reason=reason)


def _withdrawn(entries: list[Promotion]) -> list[Promotion]:
    return [entry.model_copy(update={"withdrawn": True}) for entry in entries]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name)


def _files(folder: Path) -> dict[str, tuple[int, str]]:
    """Size and hash of every file below ``folder``."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=str)
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, _sha256(path)) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(folder: Path) -> None:
    """Have every file and folder on disk before the rename makes the version visible."""
    for path in [*folder.rglob("*"), folder]:
        _flush_entry(path)


def _flush_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _first_line(error: Exception) -> str:
    return str(error.errors()[0]["msg"] if isinstance(error, ValidationError) else error).splitlines()[0]
