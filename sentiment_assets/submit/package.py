"""What a cluster needs of us: the wheel, the same as a zip for ``--py-files``, the driver program, the jars.

Belongs here: making and naming them. Does not belong here: bringing them to a cluster (``calls``).
"""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sentiment_assets import __version__
from sentiment_assets.failures import SetupError
from sentiment_assets.runtime.jars import jar_names, jar_paths
from sentiment_assets.settings import Settings

_CHECKOUT = Path(__file__).resolve().parents[2]
_BUILD_SECONDS = 300


@dataclass(frozen=True)
class Package:
    """Files to ship.

    Parameters
    ----------
    wheel
        For ``pip install`` on the nodes; its metadata lists what else they need.
    archive
        The wheel under a name that Spark puts on ``sys.path``: it ignores ``.whl``.
    driver
        The program that ``spark-submit`` starts.
    jars
        Delta and the Kafka connector, verified.
    """

    wheel: Path
    archive: Path
    driver: Path
    jars: tuple[Path, ...]


def package_of(settings: Settings) -> Package:
    """Where the files of this version are, or would be: nothing is built or fetched."""
    folder = settings.root / "dist"
    name = f"sentiment_assets-{__version__}"
    cache = settings.jar_cache.expanduser().absolute() / "spark"
    return Package(
        wheel=folder / f"{name}-py3-none-any.whl",
        archive=folder / f"{name}.zip",
        driver=folder / "driver.py",
        jars=tuple(cache / jar for jar in jar_names("spark")),
    )


def build_package(settings: Settings) -> Package:
    """Build the wheel from this checkout, without anything from elsewhere, and have the jars at hand.

    Raises
    ------
    SetupError
        When this is no checkout, the build fails, or jars cannot be fetched.
    """
    if not (_CHECKOUT / "pyproject.toml").is_file():
        raise SetupError(
            "The wheel is built from the sources, and this installation has none.", "Run it from a checkout."
        )
    package = package_of(settings)
    package.wheel.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sentiment-assets-build-") as scratch:
        # A copy: setuptools leaves its build folder beside the sources, and takes files from an old one.
        sources = Path(scratch, "sources")
        sources.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(_CHECKOUT / name, sources)
        shutil.copytree(
            _CHECKOUT / "sentiment_assets",
            sources / "sentiment_assets",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        _wheel(sources, package.wheel.parent)
    shutil.copy(package.wheel, package.archive)
    shutil.copy(Path(__file__).with_name("driver.py"), package.driver)
    jar_paths("spark", settings)
    return package


def _wheel(sources: Path, target: Path) -> None:
    """The locked setuptools builds it, hence no isolation and no index."""
    command = [
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"),
        *("--disable-pip-version-check", "--wheel-dir", str(target), str(sources)),
    ]
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_BUILD_SECONDS, errors="replace"
        )
    except subprocess.CalledProcessError as error:
        last = next(iter(error.stderr.strip().splitlines()[-1:]), "no output")
        raise SetupError(
            f"The wheel could not be built ({last}).", "Run `make setup`, then try again."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"The wheel was not built within {_BUILD_SECONDS} s.", "Try again.") from error
