"""What a user sees: the UI, a crash that mends itself, an orderly end."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
import requests

from sentiment_assets.settings import Settings
from sentiment_assets.streaming import heartbeat as heartbeats
from sentiment_assets_tests.e2e.conftest import Product, eventually

pytestmark = pytest.mark.e2e
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_every_message_of_the_replay_is_one_prediction(product: Product) -> None:
    # A batch is recorded a moment after its rows can be read; in a new JVM that takes seconds.
    eventually(
        lambda: product.status()["lag"] == 0, 60, "The record of the last batch", product.log.read_text
    )
    status = product.status()
    assert (status["predictions"], status["lag"], status["gaps"], status["duplicates"]) == (300, 0, 0, 0)
    assert status["model"] is not None


def test_every_place_says_that_the_sample_is_generated(product: Product) -> None:
    assert "generated" in product.log.read_text()
    listed = product.run("models", "list", "--json")
    assert "generated" in listed.stdout


def test_the_ui_takes_no_orders_from_pages_of_other_sites(product: Product) -> None:
    def ask(**headers: str) -> int:
        question = {"query": "{ version }"}
        return requests.post(f"{product.url}/graphql", json=question, headers=headers, timeout=30).status_code

    assert ask() == 200
    assert ask(Origin=product.url) == 200
    assert ask(Origin="https://attacker.example") == 403
    assert ask(Origin="http://127.0.0.1:1") == 403
    assert ask(Host="attacker.example") == 403


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_lineage_page_shows_every_asset_in_a_browser(product: Product) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(f"{product.url}/asset-groups", wait_until="domcontentloaded")
        for group in ("ingest", "features", "candidates", "selection", "stream"):
            page.get_by_text(group, exact=True).last.wait_for(timeout=90_000)
        page.get_by_text("stream", exact=True).last.click(force=True)
        for name in ("tweets_topic", "predictions", "dead_letters"):
            page.get_by_text(name, exact=True).last.wait_for(timeout=90_000)
        browser.close()


def test_who_retrains_from_the_ui_means_the_tweets_of_up(product: Product) -> None:
    servers = []
    for process in product.descendants():
        with contextlib.suppress(psutil.Error):
            if "code-server" in process.cmdline():
                servers.append(process.environ())
    assert servers
    assert {(env["SENTIMENT_DATA"], env["SENTIMENT_TRAIN_ROWS"]) for env in servers} == {("sample", "4000")}


def test_a_second_up_beside_the_first_is_refused(product: Product) -> None:
    second = product.run("up", "--data", "sample")
    assert second.returncode == 1
    assert "Another" in second.stderr


def test_a_killed_streaming_run_comes_back_without_gap_or_duplicate(product: Product) -> None:
    settings = Settings(home=product.home)
    sample = next((product.home / "downloads").glob("*.csv"))
    before = product.status()["predictions"]
    replay = subprocess.Popen(
        [sys.executable, "-m", "sentiment_assets", "replay", str(sample), "--limit", "2000", "--rate", "100"],
        env=product.environment,
        stdout=subprocess.DEVNULL,
    )

    def scored() -> int:
        return int(product.status()["predictions"]) - before

    eventually(lambda: scored() > 100, 120, "Scoring of the first hundred messages", product.log.read_text)
    beat = heartbeats.read_heartbeat(settings)
    assert beat is not None
    assert beat.run_id is not None
    os.kill(beat.pid, signal.SIGKILL)
    assert replay.wait(timeout=120) == 0
    eventually(lambda: scored() == 2000, 180, "Scoring of all 2,000 messages", product.log.read_text)
    eventually(
        lambda: product.status()["lag"] == 0, 60, "The record of the last batch", product.log.read_text
    )
    after = heartbeats.read_heartbeat(settings)
    assert after is not None
    assert after.run_id != beat.run_id
    status = product.status()
    assert (status["lag"], status["gaps"], status["duplicates"]) == (0, 0, 0)


def test_a_failed_run_is_shown_as_failed_not_as_running(product: Product) -> None:
    query = """{ runsOrError(filter: {pipelineName: "score_stream", statuses: [FAILURE]}) {
        ... on Runs { results { status } } } }"""
    answer = requests.post(f"{product.url}/graphql", json={"query": query}, timeout=30).json()
    assert len(answer["data"]["runsOrError"]["results"]) == 1


def test_ctrl_c_ends_everything_that_up_started(product: Product) -> None:
    family = product.descendants()
    assert len(family) > 3
    product.process.send_signal(signal.SIGINT)
    assert product.process.wait(timeout=90) == 0
    _, left = psutil.wait_procs(family, timeout=10)
    assert [process.cmdline() for process in left] == []
