"""Tables in pages of Markdown, made anew where they stand."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from keras_audio_transfer.commands.cli import printable
from keras_audio_transfer.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_BEGIN = "<!-- table: "
_TABLE = re.compile(_BEGIN + r"([^\n]+?) -->\n(?:(?!<!-- table: ).)*?<!-- end -->", flags=re.DOTALL)


def markdown(table: "pd.DataFrame") -> str:
    """A table as Markdown has it; what would end a cell, a comment or a line is made harmless."""
    rows = [[*table], ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _cell(text):
    return printable(text).replace("|", "\\|").replace("<", "&lt;")


def with_tables(page: Path, tables: Mapping[str, "pd.DataFrame"], titles: Mapping[str, str]) -> str:
    """The text of a page with the tables between its lines '<!-- table: NAME -->' and '<!-- end -->'.

    Args:
        page: one that does not exist is begun with every table.
        tables: by name.
        titles: of the tables, for a page that is begun.

    Raises:
        InputError: the page is no text, has no place for a table or one that does not end, or wants one that there is
            not; or a table's name cannot stand in such a line.
    """
    for name in tables:
        if not name.isprintable() or "-->" in name:
            raise InputError(
                f"{page}: no line of it can name a table {name!r}; expected a name without line breaks or -->"
            )

    def made(match):
        if match[1] not in tables:
            raise InputError(f"{page}: wants a table {match[1]!r}; these results have {', '.join(tables)}")
        return f"<!-- table: {match[1]} -->\n{markdown(tables[match[1]])}\n<!-- end -->"

    if page.exists():
        try:
            text = page.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{page}: is no text in UTF-8; convert it, or name another page") from error
        if _BEGIN not in text:
            raise InputError(f"{page}: has no line '<!-- table: NAME -->' for a table; name another page")
        if text.count(_BEGIN) != len(_TABLE.findall(text)):
            raise InputError(f"{page}: a table does not end; put a line '<!-- end -->' behind each")
    else:
        text = "".join(f"## {titles[name]}\n\n<!-- table: {name} -->\n<!-- end -->\n\n" for name in tables)
    return _TABLE.sub(made, text)
