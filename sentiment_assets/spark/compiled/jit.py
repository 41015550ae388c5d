"""How the functions of this package are compiled; numba keeps the result on disk (``worker.use_cache`` says where).

Importing this module imports numba, which takes a second: it is imported inside functions, after ``worker.use_cache``.
"""

from typing import Any

import numba

compiled: Any = numba.njit(cache=True, nogil=True)
"""A function that makes arrays."""

# As numba compiles its own functions on strings; its type hints lack the option.
leaf: Any = numba.njit(cache=True, nogil=True, _nrt=False)  # type: ignore[call-overload]
"""One that makes none, and so needs no count of who uses which.

Numba's runtime counts at each call, for each array, by an instruction that all processors wait for: a fifth of the time
of a text, and half of that of a message.
"""

inlined: Any = numba.njit(cache=True, nogil=True, inline="always")
"""A small one that becomes part of each of its callers."""
