"""Files in Sentiment140's format: what is read, and what stops a broken file."""

import codecs
import csv
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment_assets.failures import SourceError
from sentiment_assets.sources.sentiment140 import LabelledRow, inspect, iter_rows
from sentiment_assets.sources.sentiment140.rows import TRAINING_MEMBER

ROWS = [
    ("0", "11", "Mon Apr 06 22:19:45 PDT 2009", "NO_QUERY", "ann", "my umbrella broke, typical"),
    ("0", "12", "Mon Apr 06 22:19:49 PDT 2009", "NO_QUERY", "bob", 'the sign said "closed" again'),
    ("4", "13", "Mon Apr 06 22:20:00 PDT 2009", "NO_QUERY", "cid", "caf\xe9 with friends &amp; sunshine"),
    ("4", "14", "Mon Apr 06 22:20:03 PDT 2009", "NO_QUERY", "dee", "what a lovely day"),
]


def csv_text(rows: Iterable[tuple[str, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return text.getvalue()


def many(count: int) -> list[tuple[str, ...]]:
    return [(*ROWS[i % 4][:1], str(i), *ROWS[i % 4][2:5], f"{ROWS[i % 4][5]} {i}") for i in range(count)]


@pytest.fixture
def write(tmp_path: Path):
    def to_file(content: str | bytes, name: str = "tweets.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("iso8859-1"))
        return path

    return to_file


def refusal(path: Path, **options: object) -> str:
    """The message of the error, which must name the file and a next step."""
    with pytest.raises(SourceError) as caught:
        inspect(path, **options)  # type: ignore[arg-type]
    assert path.name in caught.value.what
    assert caught.value.next_step
    return str(caught.value)


def test_rows_are_read_as_they_stand_with_quotes_and_latin_1_letters(write):
    rows = list(iter_rows(write(csv_text(ROWS))))
    assert rows[1] == LabelledRow(0, "12", ROWS[1][2], "NO_QUERY", "bob", 'the sign said "closed" again')
    assert rows[2].text == "caf\xe9 with friends &amp; sunshine"
    assert [row.target for row in rows] == [0, 0, 4, 4]


def test_rows_that_cannot_be_used_are_skipped_and_counted(write):
    bad = [
        ("0", "1", "d"),
        ("3", "1", "d", "f", "a", "x"),
        ("4", "", "d", "f", "a", "x"),
        ("4", "9", "d", "f", "a", " "),
    ]
    path = write(csv_text(many(50) + bad + many(50)))
    assert len(list(iter_rows(path))) == 100
    found = inspect(path)
    assert found.rows == 100
    assert found.rejected == {"not six columns": 1, "unknown label": 1, "no id": 1, "empty text": 1}


def test_a_line_break_inside_a_value_is_counted_and_too_many_are_refused(write):
    broken = ("4", "1", "d", "q", "bob", "great day\nnot")
    found = inspect(write(csv_text([*many(50), broken, *many(50)])))
    assert (found.rows, found.rejected) == (100, {"a line break inside a value": 1})
    path = write(csv_text([*many(50), *[broken] * 10]))
    refused = refusal(path)
    assert "a line break inside a value: 10" in refused
    assert "a row a line" in refused
    # A replay takes such a text whole.
    assert inspect(path, both_labels=False).rows == len(list(iter_rows(path))) == 60


def test_neutral_rows_are_read_for_those_who_want_them(write):
    path = write(csv_text([*ROWS, ("2", "15", "d", "q", "eve", "i am at the station")]))
    assert [row.target for row in iter_rows(path)][-1] == 2
    assert inspect(path).neutral == 1


def test_a_zip_is_read_like_the_csv_in_it_and_has_the_same_hash(write, tmp_path):
    plain = write(csv_text(ROWS))
    zipped = tmp_path / "trainingandtestdata.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("testdata.manual.2009.06.14.csv", "not this one")
        archive.write(plain, TRAINING_MEMBER)
    assert list(iter_rows(zipped)) == list(iter_rows(plain))
    assert inspect(zipped).sha256 == inspect(plain).sha256
    assert inspect(zipped).size == plain.stat().st_size


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_last_row_needs_no_newline(write, ending):
    text = csv_text(ROWS).replace("\n", ending).removesuffix(ending)
    assert inspect(write(text)).rows == 4


def test_utf_8_is_read_when_it_is_asked_for_with_and_without_a_mark(write):
    for mark in (b"", codecs.BOM_UTF8):
        path = write(mark + csv_text(ROWS).encode())
        assert inspect(path, "utf-8").rows == 4
        assert next(iter_rows(path, "utf-8")).target == 0
        assert list(iter_rows(path, "utf-8"))[2].text.startswith("caf\xe9")


def test_a_missing_file_is_named(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.csv")


def test_a_folder_is_no_file(tmp_path):
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux' unreadable /proc/self/mem")
def test_an_unreadable_file_is_named_with_the_cause():
    assert "cannot be read (Input/output error)" in refusal(Path("/proc/self/mem"))


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_refused(write, content):
    assert "is empty" in refusal(write(content))


@pytest.mark.parametrize("lost", [5, 30, 60])
def test_a_truncated_file_is_refused(write, lost):
    text = csv_text(many(200))
    assert "is truncated" in refusal(write(text[:-lost]))


@settings(max_examples=40, deadline=None)
@given(lost=st.integers(2, 90))
def test_a_file_cut_anywhere_inside_its_last_record_is_refused(tmp_path_factory, lost):
    text = csv_text(many(100))
    last = text.splitlines()[-1]
    path = tmp_path_factory.mktemp("cut") / "cut.csv"
    path.write_text(text[: len(text) - 1 - min(lost, len(last) - 1)], encoding="iso8859-1")
    assert "is truncated" in refusal(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_utf_16_and_32_are_recognised(write, encoding):
    message = refusal(write(csv_text(ROWS).encode(encoding)))
    assert "has another encoding (UTF-" in message
    assert "iconv" in message


def test_utf_8_in_place_of_latin_1_is_recognised(write):
    message = refusal(write(csv_text(many(100)).encode()))
    assert "--encoding utf-8" in message
    assert "iconv" in message


def test_a_file_with_a_utf_8_mark_is_recognised(write):
    assert "--encoding utf-8" in refusal(write(codecs.BOM_UTF8 + csv_text(ROWS[:2] + ROWS[3:]).encode()))


def test_latin_1_in_place_of_utf_8_is_recognised(write):
    assert "is not UTF-8" in refusal(write(csv_text(ROWS)), encoding="utf-8")


def test_utf_8_leftovers_among_latin_1_as_in_the_real_file_are_accepted(write):
    lost = "\N{REPLACEMENT CHARACTER}".encode().decode("latin-1")
    rows = many(400) + [("4", "x", "d", "q", "a", f"na{lost}ve {i}") for i in range(60)]
    rows += [("0", "y", "d", "q", "a", "d\xe9j\xe0 vu")]
    assert inspect(write(csv_text(rows))).rows == 461


def test_an_encoding_that_spark_cannot_read_is_refused_by_name(write):
    with pytest.raises(SourceError, match="cp1252"):
        inspect(write(csv_text(ROWS)), "cp1252")


def test_other_columns_are_told_with_an_example(write):
    message = refusal(write("id;text\n" * 3 + "1;hello\n"))
    assert "has other columns: 4 of 4" in message
    assert "six columns" in message


def test_other_labels_are_told(write):
    message = refusal(write(csv_text([("positive", *row[1:]) for row in ROWS])))
    assert "unknown label: 4" in message


def test_a_header_line_is_told_from_a_broken_row(write):
    header = "target,ids,date,flag,user,text\n"
    assert "starts with a header line" in refusal(write(header + csv_text(ROWS)))


@pytest.mark.parametrize("label", ["0", "4"])
def test_a_file_of_one_label_is_no_use_for_training_but_can_be_replayed(write, label):
    path = write(csv_text([row for row in many(40) if row[0] == label]))
    assert "no row with the label" in refusal(path)
    assert inspect(path, both_labels=False).rows == 20


def test_more_than_one_row_in_twenty_unusable_is_too_much(write):
    bad = [("7", "1", "d", "f", "a", "x")]
    assert inspect(write(csv_text(many(95) + bad * 5 + many(1)))).rejected == {"unknown label": 5}
    assert "has too many unusable rows: 6 of 100" in refusal(write(csv_text(many(93) + bad * 6 + many(1))))


def test_a_zip_without_the_training_csv_says_what_it_holds(tmp_path):
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    message = refusal(path)
    assert TRAINING_MEMBER in message
    assert "readme.txt" in message


def test_a_broken_zip_is_refused(tmp_path):
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(TRAINING_MEMBER, csv_text(many(2000)))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "is damaged or incomplete" in refusal(path)
    path.write_bytes(content[:2000] + bytes(200) + content[2200:])
    assert "is damaged or incomplete" in refusal(path)
