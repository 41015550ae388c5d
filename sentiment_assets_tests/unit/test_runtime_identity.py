"""A process is known for good: after a change of the clock, by records of older releases, and not by its pid alone."""

import os

import psutil
import pytest

from sentiment_assets.runtime.identity import living_process, process_is_gone, process_tag, start_of


def test_a_clock_that_was_set_makes_no_living_process_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    me = psutil.Process()
    started, tag = start_of(me), process_tag()
    create_time = psutil.Process.create_time
    # Linux has the boot time, and so every start since the epoch, move with the clock.
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: create_time(process) + 3600)
    assert living_process(os.getpid(), started) is not None
    assert not process_is_gone(tag)


def test_another_start_is_another_process() -> None:
    me = psutil.Process()
    assert living_process(os.getpid(), start_of(me) - 10) is None
    host, pid, started = process_tag().rsplit("/", 2)
    assert process_is_gone(f"{host}/{pid}/{float(started) - 10}")


def test_a_record_of_an_older_release_still_names_its_process() -> None:
    created = psutil.Process().create_time()
    assert living_process(os.getpid(), created) is not None
    assert living_process(os.getpid(), created - 10) is None
