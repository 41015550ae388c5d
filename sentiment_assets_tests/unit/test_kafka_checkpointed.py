"""Where the topic ended while the embedded broker is down."""

from sentiment_assets.kafka.checkpointed import checkpointed_watermarks
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.status import read_status


def test_ends_come_from_kafkas_own_checkpoint(settings: Settings) -> None:
    data = settings.kafka / "data"
    data.mkdir(parents=True)
    (data / "replication-offset-checkpoint").write_text("0\n3\ntweets 1 20\ntweets 0 30\nother 0 99\n")
    (data / "log-start-offset-checkpoint").write_text("0\n1\ntweets 1 5\n")
    assert checkpointed_watermarks(settings) == {0: (0, 30), 1: (5, 20)}


def test_without_a_broker_ever_there_is_nothing_to_tell(settings: Settings) -> None:
    assert checkpointed_watermarks(settings) == {}
    assert read_status(settings)["lag"] is None


def test_the_lag_is_known_after_the_broker_was_stopped(settings: Settings) -> None:
    data = settings.kafka / "data"
    data.mkdir(parents=True)
    (data / "replication-offset-checkpoint").write_text("0\n1\ntweets 0 30\n")
    status = read_status(settings)
    assert (status["broker"], status["lag"]) == ("not running", 30)
