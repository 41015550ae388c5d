"""X's post objects in our schema, for the stream and for recent search alike."""

from collections.abc import Iterator
from typing import Any

from sentiment_assets.sources.live import Post

SOURCE = "x"

FIELDS = {
    "tweet.fields": "created_at,lang,author_id,note_tweet",
    "expansions": "author_id",
    "user.fields": "username",
}
"""Parameters that ask for what the schema needs."""


def post_of(data: Any, users: dict[str, str]) -> Post | None:
    """One post object; None when it has no id or no text."""
    if not isinstance(data, dict):
        return None
    long_form = data.get("note_tweet")
    text = long_form.get("text") if isinstance(long_form, dict) else data.get("text")
    if not isinstance(data.get("id"), str) or not isinstance(text, str) or not data["id"] or not text.strip():
        return None
    author_id = _text(data.get("author_id"))
    author = users.get(author_id) if author_id else None
    return Post(
        data["id"], text, _text(data.get("created_at")), author, author_id, _text(data.get("lang")), SOURCE
    )


def users_of(body: dict[str, Any]) -> dict[str, str]:
    """User id -> name, from the expansion."""
    includes = body.get("includes")
    users = includes.get("users") if isinstance(includes, dict) else None
    return {
        user["id"]: user["username"]
        for user in (users if isinstance(users, list) else [])
        if isinstance(user, dict)
        and isinstance(user.get("id"), str)
        and isinstance(user.get("username"), str)
    }


def posts_of(body: dict[str, Any]) -> Iterator[Post | None]:
    """The posts of a page of recent search."""
    users = users_of(body)
    data = body.get("data")
    for one in data if isinstance(data, list) else []:
        yield post_of(one, users)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
