"""Who may use Dagster's web server: programs and its own pages, not the pages of other sites."""

import pytest

from sentiment_assets.local.web_server import reason_to_refuse

HERE = {"host": "127.0.0.1:3000"}
OWN = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
FOREIGN = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


@pytest.mark.parametrize(
    "headers",
    [
        HERE,
        {"host": "[::1]:3000"},
        {"host": "localhost:3000", "origin": "http://localhost:3000"} | OWN,
        HERE | {"origin": "http://127.0.0.1:3000"} | OWN,
        HERE | {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
        {"host": "ui.example", "origin": "https://ui.example"} | OWN,
        # A proxy that gives the server its own name, and the page's address only as the origin.
        HERE | {"origin": "https://ui.example"} | OWN,
    ],
    ids=str,
)
def test_own_pages_and_programs_are_let_in(headers: dict[str, str]) -> None:
    assert reason_to_refuse("POST", "/graphql", headers, frozenset({"ui.example"})) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "attacker.example:3000"},
        {"host": "attacker.example:3000", "origin": "http://attacker.example:3000"} | OWN,
        HERE | {"origin": "https://attacker.example"} | FOREIGN,
        HERE | {"origin": "http://127.0.0.1:8080"} | FOREIGN,
        HERE | {"origin": "null"} | FOREIGN,
        HERE | FOREIGN,
        HERE | LINK,
        {},
    ],
    ids=str,
)
def test_pages_of_other_sites_are_not(headers: dict[str, str]) -> None:
    for method in ("GET", "POST"):
        assert reason_to_refuse(method, "/graphql", headers, frozenset({"ui.example"}))


def test_a_link_from_elsewhere_opens_a_page() -> None:
    assert reason_to_refuse("GET", "/runs/1", HERE | LINK) is None


def test_any_name_where_that_is_wished() -> None:
    assert reason_to_refuse("GET", "/", {"host": "what.ever"}, frozenset({"*"})) is None


def test_the_name_that_it_listens_on_is_known_and_its_other_servers_are_not_trusted() -> None:
    own = frozenset({"box.example"})
    here = {"host": "box.example:3000"}
    assert reason_to_refuse("GET", "/", here) is not None
    assert reason_to_refuse("GET", "/", here, own=own) is None
    other = here | {"origin": "http://box.example:8080"} | FOREIGN
    assert reason_to_refuse("POST", "/graphql", other, own=own) is not None
