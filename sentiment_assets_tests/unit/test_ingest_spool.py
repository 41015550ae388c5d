"""The spool: nothing lost, nothing twice, bounded, and all of it after a crash too."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sentiment_assets.failures import SetupError, disk_is_full
from sentiment_assets.ingest import spool as spools
from sentiment_assets.ingest.spool import Spool
from sentiment_assets.sources.live import Post


def post(number: int, text: str = "made up") -> Post:
    return Post(str(number), text, None, None, None, "en", "test")


def posts(first: int, last: int) -> list[Post]:
    return [post(number) for number in range(first, last + 1)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "test.sqlite"


def test_posts_wait_in_the_order_of_arrival_until_they_are_removed(path: Path) -> None:
    spool = Spool(path, 10**9)
    assert spool.add(posts(1, 5), "here", distinct=True) == 0
    first = spool.after(0, 3, 10**9)
    assert [row.key for row in first] == [b"1", b"2", b"3"]
    assert first[0].value == post(1).value()
    spool.remove(first)
    assert [row.key for row in spool.after(0, 10, 10**9)] == [b"4", b"5"]
    assert spool.count == 2
    assert spool.position() == "here"


def test_duplicates_are_left_out_even_after_delivery_and_a_restart(path: Path) -> None:
    spool = Spool(path, 10**9)
    assert spool.add([*posts(1, 3), post(2)], "a", distinct=True) == 1
    spool.remove(spool.after(0, 10, 10**9))
    spool.close()
    again = Spool(path, 10**9)
    assert again.add(posts(2, 4), "b", distinct=True) == 2
    assert [row.key for row in again.after(0, 10, 10**9)] == [b"4"]
    assert again.position() == "b"


def test_a_source_that_repeats_itself_on_purpose_keeps_its_repeats(path: Path) -> None:
    spool = Spool(path, 10**9)
    assert spool.add([*posts(1, 3), *posts(1, 3)], None, distinct=False) == 0
    assert spool.count == 6
    assert spool.position() is None


def test_ids_are_forgotten_in_the_end_so_that_the_file_stays_bounded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools, "IDS_REMEMBERED", 100)
    spool = Spool(path, 10**9)
    for start in range(1, 1000, 50):
        spool.add(posts(start, start + 49), None, distinct=True)
        spool.remove(spool.after(0, 50, 10**9))
    assert spool.add(posts(951, 1000), None, distinct=True) == 50, "the latest are known"
    assert spool.add(posts(1, 50), None, distinct=True) == 0, "the first are forgotten"


def test_the_spool_is_full_at_its_capacity_and_has_room_again_after_delivery(path: Path) -> None:
    spool = Spool(path, 10_000)
    spool.add([post(1, "x" * 9_000)], None, distinct=True)
    assert not spool.full
    spool.add([post(2, "x" * 2_000)], None, distinct=True)
    assert spool.full
    assert Spool(path, 10_000).full, "a new process counts what it finds"
    spool.remove(spool.after(0, 1, 10**9))
    assert not spool.full


def test_as_many_posts_are_read_at_once_as_fit_and_one_that_does_not_is_read_alone(path: Path) -> None:
    spool = Spool(path, 10**9)
    spool.add([post(1, "x" * 9_000), post(2), post(3), post(4)], None, distinct=True)
    two = 2 * len(post(2).key() + post(2).value())
    assert [row.key for row in spool.after(0, 10, 5_000)] == [b"1"]
    assert [row.key for row in spool.after(1, 10, two)] == [b"2", b"3"]


CRASH = """
import os, signal, sys
from pathlib import Path
from sentiment_assets.ingest.spool import Spool
from sentiment_assets.sources.live import Post
spool = Spool(Path(sys.argv[1]), 10**9)
for number in range(1, 10**9):
    posts = [Post(f"{number}-{part}", "text", None, None, None, None, "t") for part in "ab"]
    spool.add(posts, str(number), distinct=True)
    if number == 300:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_posts_and_position_belong_together(path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASH), str(path)], timeout=60, check=False, env=os.environ
    )
    assert result.returncode == -signal.SIGKILL
    spool = Spool(path, 10**9)
    assert spool.position() == "300"
    assert [row.key for row in spool.after(0, 10**6, 10**9)] == [
        f"{number}-{part}".encode() for number in range(1, 301) for part in "ab"
    ]


def test_a_disk_that_fills_up_within_a_transaction_is_said_and_nothing_is_half_kept(path: Path) -> None:
    spool = Spool(path, 10**9)
    spool.add(posts(1, 5), "here", distinct=True)
    # So small a cache is written out before the commit, as that of many posts is.
    spool._db.execute("PRAGMA cache_size = 5")
    spool._db.execute("PRAGMA max_page_count = 40")
    with pytest.raises(SetupError) as failure:
        spool.add([post(number, "made up " * 200) for number in range(6, 500)], "there", distinct=True)
    assert disk_is_full(failure.value)
    spool._db.execute("PRAGMA max_page_count = 100000")
    assert spool.position() == "here"
    assert spool.add(posts(6, 9), "there", distinct=True) == 0
    assert [row.key for row in spool.after(0, 100, 10**9)] == [str(n).encode() for n in range(1, 10)]


def test_a_file_that_is_no_spool_is_an_error_that_names_it(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"something else, longer than a header of sixteen bytes" * 100)
    with pytest.raises(SetupError, match=r"test\.sqlite cannot be used"):
        Spool(path, 10**9)
