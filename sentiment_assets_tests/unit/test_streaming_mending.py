"""Dead letters on their way through an editor, without a broker."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment_assets.failures import SourceError
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.mending import (
    DeadLetter,
    _bytes,
    as_line,
    count_by_reason,
    export,
    read_letters,
)
from sentiment_assets_tests.letters import put_aside

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def letter(value: bytes | None, offset: int = 3) -> DeadLetter:
    return DeadLetter("tweets", 0, offset, NOW, "not JSON", b"k", value)


@pytest.mark.parametrize(
    ("value", "encoding", "shown"),
    [
        (None, "null", None),
        (b'{"id": "5"}', "json", {"id": "5"}),
        (b"plain", "text", "plain"),
        (b"[1]", "text", "[1]"),
        (b"\xff", "base64", "/w=="),
        (b'{"a": NaN}', "text", '{"a": NaN}'),
        (b'{"a":' * 100_000, "text", '{"a":' * 100_000),
    ],
)
def test_a_value_is_shown_in_the_most_readable_form_that_it_has(
    value: bytes | None, encoding: str, shown: object
) -> None:
    line = as_line(letter(value))
    assert (line["encoding"], line["value"]) == (encoding, shown)


@given(st.none() | st.binary() | st.text().map(str.encode))
def test_a_line_that_is_not_mended_gives_the_same_message(value: bytes | None) -> None:
    line = json.loads(json.dumps(as_line(letter(value))))
    back = _bytes(line["value"], line["encoding"])
    assert back == value or json.loads(back or b"") == json.loads(value or b"")


def test_an_exported_file_is_ascii_so_that_no_letter_drives_a_terminal(
    settings: Settings, tmp_path: Path
) -> None:
    put_aside(settings, [letter("\x1b[31mred\u202e".encode()), letter(None, 4)])
    file = tmp_path / "letters.jsonl"
    assert export(settings, file) == 2
    assert file.read_bytes().isascii()
    assert b"\x1b" not in file.read_bytes()
    assert [line["offset"] for line in map(json.loads, file.read_text().splitlines())] == [3, 4]


def test_a_file_that_may_hold_somebodys_work_is_not_overwritten(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "letters.jsonl"
    file.touch()
    with pytest.raises(SourceError, match="may hold mended letters"):
        export(settings, file)


def test_letters_are_counted_by_reason_and_read_one_reason_at_a_time(settings: Settings) -> None:
    assert count_by_reason(settings) == {}
    others = [DeadLetter("tweets", 1, n, NOW, "text is empty", None, b"{}") for n in range(3)]
    put_aside(settings, [letter(b"x"), *others])
    assert list(count_by_reason(settings).items()) == [("text is empty", 3), ("not JSON", 1)]
    assert [found.place for found in read_letters(settings, reason="not JSON")] == ["tweets/0/3"]
    assert len(list(read_letters(settings, limit=2))) == 2
