"""The kernel's hash tables and its Arrow door, without a JVM."""

from itertools import permutations
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pyarrow as pa
import pytest

from sentiment_assets.spark.compiled.kernel import (
    CODE_POINTS,
    LETTER,
    SPACE,
    WORD,
    fill_slots,
    hash_terms,
    hash_words,
    score_texts,
)
from sentiment_assets.spark.compiled.tables import Tables, interleaved
from sentiment_assets.spark.compiled.worker import scorer

INTERCEPT = 0.25


def codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def view(terms: list[str], weights: list[float], *, by_words: bool) -> tuple[np.ndarray, np.ndarray]:
    hashes = np.empty(len(terms), np.uint64)
    hash_terms(codes("".join(f"{term}\n" for term in terms)), by_words, hashes)
    size = max(64, 1 << (2 * len(terms)).bit_length())
    slots, places = np.zeros(size, np.uint64), np.empty(len(terms), np.int64)
    assert fill_slots(hashes, slots, places) == -1
    values = np.zeros((size, 2))
    values[places] = [(weight, 1.0) for weight in weights]
    return slots, values


def classes_of_letters() -> np.ndarray:
    classes = np.zeros(CODE_POINTS, np.uint8)
    for character in ascii_lowercase:
        classes[ord(character)] = LETTER | WORD
    classes[ord(" ")] = SPACE
    return classes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    words = view(
        ["good", "good day", "not:good", "<s> good", "last:day"], [0.1, 0.2, 0.4, 0.8, 1.6], by_words=True
    )
    pieces = view([" goo", "day "], [3.2, 6.4], by_words=False)
    Tables(classes_of_letters(), *words, *pieces, order=4, intercept=INTERCEPT).save(tmp_path)
    return tmp_path


def log_odds(probabilities: pa.Array) -> list[float]:
    return [float(np.log(p / (1 - p))) for p in probabilities.to_numpy()]


def test_each_known_term_counts_once_over_the_norm_of_its_view(folder: Path, tmp_path: Path) -> None:
    score = scorer(str(folder), str(tmp_path))
    texts = pa.array(["good day", "bad", "", "so good so good"])
    expected = [(0.1 + 0.2 + 0.8 + 1.6) / 2 + (3.2 + 6.4) / np.sqrt(2), 0, 0, 0.1 + 3.2]
    np.testing.assert_allclose(log_odds(score(texts)), np.array(expected) + INTERCEPT, rtol=1e-9)


@pytest.mark.parametrize("known", [1, 63, 511, 512, 513, 5_000])
def test_each_of_many_known_terms_counts_once_too(tmp_path: Path, known: int) -> None:
    words = ["".join(letters) for letters in permutations(ascii_lowercase, 3)][:known]
    weights = [(1 + place / known) / np.sqrt(known) for place in range(known)]
    none = np.zeros(1, np.uint64), np.zeros((1, 2))
    tables = Tables(
        classes_of_letters(), *view(words, weights, by_words=True), *none, order=0, intercept=INTERCEPT
    )
    tables.save(tmp_path)
    text = " ".join([*words, *reversed(words), *words[: known // 2], "stranger"])
    found = log_odds(scorer(str(tmp_path), str(tmp_path / "cache"))(pa.array([text])))
    np.testing.assert_allclose(found, sum(weights) / np.sqrt(known) + INTERCEPT, rtol=1e-9)


def test_a_part_of_an_array_and_large_strings_give_the_same_without_compiling_anew(
    folder: Path, tmp_path: Path
) -> None:
    score = scorer(str(folder), str(tmp_path))
    texts = pa.array(["bad", "good", "not good", "", "day"])
    whole = score(texts).to_pylist()
    assert score(texts[1:4]).to_pylist() == whole[1:4]
    assert score(texts.cast(pa.large_string())).to_pylist() == whole
    assert score(pa.array([], pa.string())).to_pylist() == []
    assert score(pa.array(["", ""])).to_pylist() == [whole[3]] * 2
    assert len(score_texts.signatures) == 1


def test_tables_are_mapped_read_only_and_unchanged(folder: Path) -> None:
    tables = Tables.load(folder)
    assert (tables.order, tables.intercept) == (4, INTERCEPT)
    assert not tables.word_values.flags.writeable
    assert np.count_nonzero(tables.word_slots) == 5


@pytest.mark.parametrize("slots", [1, 64, 1 << 17])
def test_no_slot_lies_in_two_lines_of_the_cache(slots: int) -> None:
    numbers = np.arange(slots, dtype=np.uint64)
    table = interleaved(numbers, np.stack([numbers + 0.5, numbers + 0.25], axis=1))
    assert (table.itemsize, table.ctypes.data % (2 * 2**20)) == (32, 0)
    np.testing.assert_array_equal(table["hash"], numbers)
    np.testing.assert_array_equal(table["weight"] - table["square"], np.full(slots, 0.25))


def test_a_term_that_occurs_twice_is_found() -> None:
    hashes = np.array([7, 8, 7], np.uint64)
    assert fill_slots(hashes, np.zeros(8, np.uint64), np.empty(3, np.int64)) == 2


def test_the_order_of_words_and_where_they_are_divided_change_the_hash() -> None:
    texts = ["a b", "b a", "ab", "a", "b", "a b c", "a bc", "not:a"]
    assert len({int(hash_words(codes(text), 0, len(text))) for text in texts}) == len(texts)
