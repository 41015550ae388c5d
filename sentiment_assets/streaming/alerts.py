"""One message to a person's webhook for each incident: the circuit is open, too many messages are dead letters.

The address is a secret (whoever has it can post): it comes from SENTIMENT_ALERT_WEBHOOK alone and is in no run
configuration, log or error text. A webhook that does not answer never disturbs what calls it; it is tried again at
the next call.
Does not belong here: what an incident is (``supervisor``, ``shares``).
"""

import json
import logging
from datetime import UTC, datetime
from pathlib import Path

from sentiment_assets.runtime.files import replace_file
from sentiment_assets.settings import Settings

log = logging.getLogger(__name__)

_TIMEOUT = (1.0, 2.0)
"""Seconds to connect and to wait for the answer: a sensor's tick stays short."""
_KEPT = 50


def alert(settings: Settings, incident: str, text: str) -> bool:
    """Tell the webhook, once an incident.

    Parameters
    ----------
    incident
        Name of the incident; the same name is told once until :func:`clear`.
    text
        What a person reads, posted as ``{"text": ..., "incident": ...}``, which Slack and Mattermost show.

    Returns
    -------
    bool
        Whether it was posted by this call.
    """
    if settings.alert_webhook is None:
        return False
    told = _told(settings)
    if incident in told:
        return False
    import requests  # opens a socket at import, which a code location must not

    try:
        requests.post(
            settings.alert_webhook.get_secret_value(),
            json={"text": f"sentiment-assets: {text}", "incident": incident},
            timeout=_TIMEOUT,
        ).raise_for_status()
    except requests.RequestException as error:
        # Not the exception's text: it names the address.
        log.warning("The alert webhook did not take a message (%s); it is tried again.", type(error).__name__)
        return False
    _note(settings, told | {incident: datetime.now(UTC).isoformat(timespec="seconds")})
    return True


def clear(settings: Settings, incident: str) -> None:
    """The incident is over: the next one of that name is told again."""
    told = _told(settings)
    if told.pop(incident, None) is not None:
        _note(settings, told)


def _told(settings: Settings) -> dict[str, str]:
    if (unwritten := _unwritten.get(_file(settings))) is not None:
        return dict(unwritten)
    try:
        return dict(json.loads(_file(settings).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _note(settings: Settings, told: dict[str, str]) -> None:
    newest = dict(sorted(told.items(), key=lambda item: item[1])[-_KEPT:])
    try:
        replace_file(_file(settings), json.dumps(newest), durable=False)
        _unwritten.pop(_file(settings), None)
    except OSError as error:
        log.warning("That an alert was sent is remembered by this process only (%s).", error.strerror)
        _unwritten[_file(settings)] = newest


_unwritten: dict[Path, dict[str, str]] = {}
"""What could not be written: a full disk is itself a reason for alerts, and one alert an incident is enough."""


def _file(settings: Settings) -> Path:
    return settings.run / "alerts.json"
