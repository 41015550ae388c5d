"""What the kernel reads: one model as plain arrays in files, and as they lie in the memory of a worker.

Belongs here: the arrays and their files. Does not belong here: where they come from (``export``).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

_ARRAYS = ("classes", "word_slots", "word_values", "piece_slots", "piece_values")
NUMBERS = "numbers.json"
"""Name of the file that is written last."""

_TERM = np.dtype(
    {
        "names": ["hash", "weight", "square"],
        "formats": ["u8", "f8", "f8"],
        "offsets": [0, 8, 16],
        "itemsize": 32,
    }
)
"""Of a slot, all that is asked of it: half a line of a processor's cache, so that it comes from memory at once."""
_HUGE_PAGE = 2 * 2**20


@dataclass(frozen=True)
class Tables:
    """A linear model over word terms and character n-grams.

    Attributes
    ----------
    classes
        Class bits of each code point (``kernel``), uint8.
    word_slots, word_values, piece_slots, piece_values
        Hash tables with open addressing, their length a power of 2: the term's hash or 0; and, of the same slot,
        (weight, square): what the term adds to the log-odds, and its square in the norm of its view, float64.
    order
        Length of the character n-grams; 0: none.
    intercept
        Log-odds of a text without any known term.
    """

    classes: npt.NDArray[np.uint8]
    word_slots: npt.NDArray[np.uint64]
    word_values: npt.NDArray[np.float64]
    piece_slots: npt.NDArray[np.uint64]
    piece_values: npt.NDArray[np.float64]
    order: int
    intercept: float

    def save(self, folder: Path) -> None:
        """Write the arrays into an existing folder.

        Raises
        ------
        OSError
            When the disk is full or the folder cannot be written.
        """
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        numbers = {"order": self.order, "intercept": self.intercept}
        (folder / NUMBERS).write_text(json.dumps(numbers), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map the arrays of a folder into memory, read-only.

        Raises
        ------
        OSError, ValueError
            When a file is missing or damaged.
        """
        numbers = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
        # As plain arrays: numba does not know numpy's class for mapped ones.
        arrays = {
            name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            for name in _ARRAYS
        }
        return cls(**arrays, order=int(numbers["order"]), intercept=float(numbers["intercept"]))


def interleaved(slots: npt.NDArray[np.uint64], values: npt.NDArray[np.float64]) -> npt.NDArray[np.void]:
    """A hash table as ``kernel.score_texts`` reads it, in memory of this process.

    Begins where a huge page may, which numpy asks the system for: the slots are read in random order, and most would
    lie in a page of their own that the processor has to look up first.

    Parameters
    ----------
    slots, values
        Of a view, as in :class:`Tables`.

    Returns
    -------
    array
        Of each slot ``hash`` (0: empty), ``weight`` and ``square``.
    """
    size = len(slots) * _TERM.itemsize
    room = np.empty(size + _HUGE_PAGE, np.uint8)
    begin = -room.ctypes.data % _HUGE_PAGE
    table: npt.NDArray[np.void] = room[begin : begin + size].view(_TERM)
    table["hash"], table["weight"], table["square"] = slots, values[:, 0], values[:, 1]
    return table
