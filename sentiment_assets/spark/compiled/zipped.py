"""Where numba keeps what it compiles of a package that is imported from a zip, as on the executors of a cluster.

Numba's own locator names the folder after the path of the zip, which is another one in each application: everything
would be compiled anew, and kept, each time, below a HOME that need not be writable.
Named to numba by ``worker.use_cache``; does not belong here: packages that lie in a folder.
"""

import os
from pathlib import Path
from typing import Any, Self

from numba.core.caching import ZipCacheLocator


class CacheOfThisPackage(ZipCacheLocator):
    """The folder that ``NUMBA_CACHE_DIR`` names, which is one for each state of the sources."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        super().__init__(py_func, py_file)  # type: ignore[no-untyped-call]
        self._cache_path = str(Path(os.environ["NUMBA_CACHE_DIR"], Path(py_file).parent.name))

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Self | None:
        """None, and so numba's own place, for what is in no zip and where nothing can be written."""
        if ".zip" not in py_file:
            return None
        locator = cls(py_func, py_file)
        try:
            locator.ensure_cache_path()  # type: ignore[no-untyped-call]
        except OSError:
            return None
        return locator
