"""``tweets_topic``: the Kafka topic, an external asset whose lag a sensor observes."""

from dagster import (
    AssetKey,
    AssetObservation,
    AssetSpec,
    DefaultSensorStatus,
    MetadataValue,
    ResourceParam,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from sentiment_assets import keys
from sentiment_assets.resources.kafka import KafkaResource
from sentiment_assets.settings import Settings
from sentiment_assets.streaming.alerts import alert, clear
from sentiment_assets.streaming.shares import Level, recent_messages

_OBSERVE_SECONDS = 60
_DEAD_LETTERS = "too many dead letters"

tweets_topic = AssetSpec(
    key=keys.TWEETS_TOPIC,
    group_name=keys.GROUP_STREAM,
    kinds={"kafka"},
    owners=[keys.OWNER_DATA],
    description="Tweets as JSON messages in Kafka; written by a producer outside Dagster. "
    "Its lag is observed once a minute: messages that the stream has not scored yet.",
)


def topic_lag_sensor() -> SensorDefinition:
    """The sensor that observes the topic's lag; it never consumes."""

    @sensor(
        name=keys.SENSOR_TOPIC_LAG,
        minimum_interval_seconds=_OBSERVE_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Once a minute: how many messages of each partition the stream has not scored yet.",
    )
    def topic_lag(
        context: SensorEvaluationContext,  # noqa: ARG001
        kafka: ResourceParam[KafkaResource],
        settings: ResourceParam[Settings],
    ) -> SensorResult | SkipReason:
        _alert_of_dead_letters(settings)
        ends = kafka.ends()
        if ends is None:
            return SkipReason("Kafka does not answer.")
        lag = kafka.lag_of(ends)
        messages = sum(high - low for low, high in ends.values())
        return SensorResult(
            asset_events=[
                AssetObservation(
                    asset_key=AssetKey(keys.TWEETS_TOPIC),
                    metadata={
                        "topic": MetadataValue.text(kafka.topic),
                        "lag": MetadataValue.int(sum(lag.values())),
                        "messages": MetadataValue.int(messages),
                        "partitions": MetadataValue.json({str(p): behind for p, behind in lag.items()}),
                    },
                )
            ]
        )

    return topic_lag


def _alert_of_dead_letters(settings: Settings) -> None:
    """Tell a person when too many messages cannot be scored, once until it is over."""
    if settings.alert_webhook is None:
        return
    recent = recent_messages(settings)
    if recent.level(settings) is Level.FAIL:
        alert(
            settings,
            _DEAD_LETTERS,
            f"{recent.dead_share:.1%} of the last hour's messages cannot be scored "
            f"({recent.dead_letters:,} dead letters). See `sentiment-assets dead-letters list`.",
        )
    else:
        clear(settings, _DEAD_LETTERS)
