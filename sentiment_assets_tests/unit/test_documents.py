"""Commands in the documents: each exists, with the options that it is shown with."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from sentiment_assets.cli import app
from sentiment_assets.schemas import DEAD_LETTERS, PREDICTIONS, Table
from sentiment_assets.settings import Settings, variable

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
# On a line of its own, behind variables and the path of the program; or in a sentence.
_PROGRAM = r"(?:[^\s`]*/)?sentiment-assets "
SHOWN = re.compile(rf"^(?:[A-Z_]+=\S* )*{_PROGRAM}(.+)$|`{_PROGRAM}([^`]+)`", re.MULTILINE)


def commands_in(document: Path) -> list[list[str]]:
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(block or inline, comments=True) for block, inline in SHOWN.findall(text)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_each_command_that_a_document_shows_exists_with_its_options(document: Path) -> None:
    for words in commands_in(document):
        command, rest = get_command(app), list(words)
        while rest and (inner := getattr(command, "commands", {}).get(rest[0])):
            command, rest = inner, rest[1:]
        is_group, names_none = hasattr(command, "commands"), not rest or rest[0].isupper()
        assert not is_group or names_none, words
        ours = rest[: rest.index("--")] if "--" in rest else rest
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {
            "--help"
        }
        assert {word.split("=")[0] for word in ours if word.startswith("--")} <= known, words


@pytest.mark.parametrize("table", [PREDICTIONS, DEAD_LETTERS], ids=lambda table: table.name)
def test_the_page_of_the_tables_says_what_the_schema_says(table: Table) -> None:
    lines = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8").splitlines()
    section = lines[lines.index(f"## {table.name}") :]
    first = section.index("|---|---|---|") + 1
    assert table.comment in section
    assert section[first : first + len(table.columns) + 1] == [
        *(
            f"| `{c.name}` | {c.type}{'' if c.nullable else ' not null'} | {c.comment} |"
            for c in table.columns
        ),
        "",
    ]


def test_each_setting_that_the_readme_lists_exists_and_all_others_are_for_few() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = set(
        re.findall(r"SENTIMENT_[A-Z_]*[A-Z]", text[text.index("## Settings") : text.index("## Where data")])
    )
    existing = {variable(field) for field in Settings.model_fields} | {"SENTIMENT_LOG_LEVEL"}
    assert listed <= existing
    elsewhere = {"SENTIMENT_X_API_URL", "SENTIMENT_JETSTREAM_URLS", "SENTIMENT_SUPERVISOR_INTERVAL_SECONDS"}
    assert {
        name for name in existing - listed - elsewhere if not name.startswith("SENTIMENT_KAFKA_")
    } == set()


def test_the_documents_show_many_commands() -> None:
    assert sum(len(commands_in(document)) for document in DOCUMENTS) > 20
