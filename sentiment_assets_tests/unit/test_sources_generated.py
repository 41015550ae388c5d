"""The generated sample: reproducible, in the right format, hard, and honest about itself."""

from collections import Counter

import pytest

from sentiment_assets.failures import SetupError
from sentiment_assets.sources import generated, resolve
from sentiment_assets.sources.grammar import AMBIGUOUS, FLIPPED
from sentiment_assets.sources.sentiment140 import inspect, iter_rows


def test_the_same_seed_and_rows_give_the_same_bytes(settings, tmp_path):
    first = generated.write(settings, rows=500, seed=1).read_bytes()
    elsewhere = settings.model_copy(update={"home": tmp_path / "elsewhere"})
    assert generated.write(elsewhere, rows=500, seed=1).read_bytes() == first
    assert generated.write(settings, rows=500, seed=2).read_bytes() != first


def test_it_passes_the_checks_of_a_real_file(settings):
    found = inspect(generated.write(settings, rows=2001))
    assert (found.negative, found.positive, found.rejected) == (1000, 1001, {})


def test_it_has_the_traits_of_the_real_file():
    rows = list(generated.tweets(20_000, seed=3))
    targets = [row[0] for row in rows]
    assert targets == sorted(targets)
    labels_of_id: dict[int, set[int]] = {}
    for target, identity, *_ in rows:
        labels_of_id.setdefault(identity, set()).add(target)
    assert 5 < sum(len(labels) == 2 for labels in labels_of_id.values()) < 60
    texts = Counter(row[5] for row in rows)
    assert 0.95 < len(texts) / len(rows) < 0.995
    assert max(map(len, texts)) <= 140
    joined = " ".join(texts)
    assert all(trait in joined for trait in ("&amp;", "&quot;", "http://", "@", "#"))
    assert not any(emoticon in joined for emoticon in (":)", ":(", ":D", ";)"))


def test_no_model_can_expect_more_than_the_leakage_ceiling_allows(settings):
    assert settings.leakage_ceiling > (1 - AMBIGUOUS) * (1 - FLIPPED) + AMBIGUOUS / 2


def test_words_tell_the_label_often_but_not_always():
    def evidence(text: str) -> int:
        words = text.lower().split()
        return sum(word in ("great", "love", "awesome", "happy") for word in words) - sum(
            word in ("hate", "bad", "terrible", "tired") for word in words
        )

    told = [(row[0], score) for row in generated.tweets(20_000, seed=4) if (score := evidence(row[5]))]
    right = sum((target == 4) == (score > 0) for target, score in told) / len(told)
    assert len(told) > 1000
    assert 0.7 < right < 0.95


def test_a_sample_by_name_says_that_it_is_no_real_one(settings):
    source = resolve(settings, "sample", generated_rows=200)
    assert source.kind == "generated"
    assert source.generated
    assert source.note == "generated sample, not real tweets"
    assert len(list(iter_rows(source.path))) == 200


def test_a_folder_that_cannot_be_written_is_told(settings):
    settings.downloads.write_text("a file where the folder should be")
    with pytest.raises(SetupError, match="cannot be written"):
        generated.write(settings, rows=10)
