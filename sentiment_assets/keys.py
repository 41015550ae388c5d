"""Names that several modules must spell alike: asset keys, groups, owners, jobs, run tags.

Belongs here: constants. Does not belong here: anything computed from the world.
"""

RAW_TWEETS = "raw_tweets"
CLEANED_TWEETS = "cleaned_tweets"
TRAIN_TWEETS = "train_tweets"
TEST_TWEETS = "test_tweets"
FEATURES = "features"
CANDIDATES = "candidates"
CHOSEN_MODEL = "chosen_model"
TWEETS_TOPIC = "tweets_topic"
PREDICTIONS = "predictions"
DEAD_LETTERS = "dead_letters"

GROUP_INGEST = "ingest"
GROUP_FEATURES = "features"
GROUP_CANDIDATES = "candidates"
GROUP_SELECTION = "selection"
GROUP_STREAM = "stream"

OWNER_ML = "team:ml-engineering"
OWNER_DATA = "team:data-engineering"

JOB_INGEST = "ingest"
JOB_RETRAIN = "retrain"
JOB_RETRAIN_FULL = "retrain_full"
JOB_SCORE_STREAM = "score_stream"
JOB_MAINTENANCE = "maintenance"
SENSOR_SUPERVISOR = "stream_supervisor"
SENSOR_TOPIC_LAG = "topic_lag"

TAG_ROLE = "sentiment/role"
"""Kind of a run; at most one of each kind writes at a time (see ``local.instance``)."""
TAG_PROCESS = "sentiment/process"
"""host/pid/start of the process that executes the run."""
TAG_LEASE = "sentiment/lease"
"""Serial number of a streaming run, the truth about how many were launched."""
TAG_ATTEMPT = "sentiment/attempt"
"""How many launches in a row have failed, this one included, counted from 1."""
TAG_REASON = "sentiment/launch_reason"
TAG_MODEL = "sentiment/model_version"
TAG_PROGRESSED = "sentiment/progressed"
"""Set once a streaming run has committed rows: a later failure then starts a new row of failures."""

LOCATION = "sentiment_assets"
