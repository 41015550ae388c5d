#!/usr/bin/env bash
# Starts everything of docker-compose.yaml on the generated sample, waits until every message is scored, stops it.
# usage: docker/smoke.sh [MESSAGES]; with SENTIMENT_IMAGE in the environment that image is not built, it must be there.
set -euo pipefail
cd "$(dirname "$0")"

messages=${1:-2000}
export COMPOSE_PROJECT_NAME=sentiment-smoke
POSTGRES_PASSWORD=$(head -c 24 /dev/urandom | base64 | tr -dc 'a-zA-Z0-9')
export POSTGRES_PASSWORD SENTIMENT_DATA=sample SENTIMENT_MESSAGES=$messages SENTIMENT_RATE=500 \
  SENTIMENT_UI_PORT=${SENTIMENT_UI_PORT:-3000} SENTIMENT_INPUT=${SENTIMENT_INPUT:-$(mktemp -d)} SENTIMENT_TRAIN_ROWS=20000

# Fails unless the code location, which runs the stream, ends in time by itself: 137 is Docker's SIGKILL.
stop_in_time() {
  container=$(compose ps --quiet code)
  begun=$SECONDS
  compose stop --timeout 20 code
  ended=$(docker inspect --format '{{.State.ExitCode}}' "$container")
  echo "the code location stopped in $((SECONDS - begun)) s with exit code $ended"
  ((SECONDS - begun < 20 && ended != 137))
}

compose() { docker compose --env-file /dev/null "$@"; }

finish() {
  code=$?
  if ((code)); then compose logs --tail 60 || true; fi
  start=$SECONDS
  compose down --volumes --timeout 20 || true
  echo "stopped in $((SECONDS - start)) s"
  exit "$code"
}
trap finish EXIT

# It waits for the training, which is where it would hang.
if [[ -n ${SENTIMENT_IMAGE:-} ]]; then build=--no-build; else build=--build; fi
timeout 1800 docker compose --env-file /dev/null up "$build" --detach
deadline=$((SECONDS + 1200))
while ((SECONDS < deadline)); do
  status=$(compose exec -T code sentiment-assets status --json 2>/dev/null || echo '{}')
  summary=$(python3 -c '
import json, sys
s = json.loads(sys.argv[1])
print(s.get("predictions", 0), s.get("gaps", "?"), s.get("duplicates", "?"))' "$status")
  echo "predictions, gaps, duplicates: $summary"
  if [[ $summary == "$messages 0 0" ]]; then
    curl --fail --silent --output /dev/null "http://127.0.0.1:$SENTIMENT_UI_PORT/server_info"
    echo "everything works: $messages messages scored, each exactly once"
    stop_in_time
    exit 0
  fi
  sleep 10
done
echo "not all messages were scored in time" >&2
exit 1
