"""The rules of the filtered stream: kept at X, made the same as those that a person wants.

Belongs here: reading a rule file, comparing, adding, deleting. Does not belong here: the stream itself.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from sentiment_assets.failures import SourceError
from sentiment_assets.sources.x_api.client import RulesCapError, XClient

PATH = "/2/tweets/search/stream/rules"


class Rule(NamedTuple):
    """One rule at X."""

    id: str
    value: str


def read_rules(given: list[str], file: Path | None) -> list[str]:
    """The wanted rules, in order, each once.

    Parameters
    ----------
    given
        Rules of the command line.
    file
        One rule a line, UTF-8; empty lines do not count. There are no comments: a hashtag begins with ``#``.

    Raises
    ------
    SourceError
        When the file cannot be read.
    """
    lines: list[str] = []
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise SourceError(
                f"The rule file {file} cannot be read ({reason}).",
                "Name a UTF-8 text file with one rule a line.",
            ) from error
    rules = (line.strip() for line in (*given, *lines))
    return list(dict.fromkeys(rule for rule in rules if rule))


async def current_rules(client: XClient) -> list[Rule]:
    """All rules of the token's project."""
    rules: list[Rule] = []
    params: dict[str, str] = {}
    while True:
        body = await client.get(PATH, params)
        rules += [Rule(str(rule["id"]), str(rule["value"])) for rule in body.get("data") or []]
        token = (body.get("meta") or {}).get("next_token")
        if not token:
            return rules
        params = {"pagination_token": str(token)}


async def synchronise(client: XClient, wanted: list[str]) -> list[str]:
    """Delete the rules that are not wanted, add those that are missing; with none wanted, keep what there is.

    Returns
    -------
    list of str
        The rules in force.

    Raises
    ------
    SourceError
        When X refuses a rule or keeps one that is not wanted, or there is no rule at all.
    """
    present = await current_rules(client)
    if not wanted:
        if not present:
            raise SourceError(
                "The filtered stream has no rule, so no post would ever come.",
                "Give one, for example --rule 'dagster lang:en -is:retweet'.",
            )
        return [rule.value for rule in present]
    values = {rule.value for rule in present}
    added = {"add": [{"value": rule} for rule in wanted if rule not in values]}
    if added["add"]:
        # A rule that X refuses must not cost those that are in force; these take room until they are deleted.
        with suppress(RulesCapError):
            body = await client.post(PATH, added, {"dry_run": "true"})
            _check_added(body, ignore=("DuplicateRule", "RulesCapExceeded"))
    # Deleted before the others are added: a plan's limit on the number of rules leaves no room for both sets.
    unwanted = [rule.id for rule in present if rule.value not in wanted]
    if unwanted:
        answer = await client.post(PATH, {"delete": {"ids": unwanted}})
        summary = (answer.get("meta") or {}).get("summary") or {}
        if answer.get("errors") or summary.get("not_deleted"):
            await _check_deleted(client, unwanted)
    if added["add"]:
        _check_added(await client.post(PATH, added))
    return wanted


async def _check_deleted(client: XClient, ids: list[str]) -> None:
    """X answers 200 even when it deleted only some of the rules; one that somebody else deleted is no fault."""
    kept = [rule.value for rule in await current_rules(client) if rule.id in ids]
    if kept:
        raise SourceError(
            f"X did not delete the rule {kept[0]!r}, which is not wanted.",
            "Start again; if it stays, delete it in the X developer portal, or give it as a rule too.",
        )


def _check_added(body: dict[str, Any], ignore: tuple[str, ...] = ("DuplicateRule",)) -> None:
    """X answers 201 even when it took only some of the rules; a rule that is there already is no fault."""
    refused = [e for e in body.get("errors") or [] if isinstance(e, dict) and e.get("title") not in ignore]
    if not refused:
        return
    first = refused[0]
    details = first.get("details") or [first.get("detail") or first.get("title") or "no reason given"]
    raise SourceError(
        f"X refuses the rule {first.get('value', '')!r} ({str(details[0])[:200]}).",
        "Mend it as X's documentation of operators says.",
    )
