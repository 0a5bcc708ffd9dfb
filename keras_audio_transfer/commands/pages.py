"""Tables in pages of Markdown, made anew where they stand."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from keras_audio_transfer.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_TABLE = re.compile(r"<!-- table: (\w+) -->\n.*?<!-- end -->", flags=re.DOTALL)


def markdown(table: "pd.DataFrame") -> str:
    """A table as Markdown has it."""
    rows = [[*table], ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_tables(page: Path, tables: Mapping[str, "pd.DataFrame"], titles: Mapping[str, str]) -> str:
    """The text of a page with the tables between its lines '<!-- table: NAME -->' and '<!-- end -->'.

    Args:
        page: one that does not exist is begun with every table.
        tables: by name.
        titles: of the tables, for a page that is begun.

    Raises:
        InputError: the page has no place for a table, or wants one that there is not.
    """

    def made(match):
        if match[1] not in tables:
            raise InputError(f"{page}: wants a table {match[1]!r}; these results have {', '.join(tables)}")
        return f"<!-- table: {match[1]} -->\n{markdown(tables[match[1]])}\n<!-- end -->"

    if page.exists():
        text = page.read_text(encoding="utf-8")
        if "<!-- table: " not in text:
            raise InputError(f"{page}: has no line '<!-- table: NAME -->' for a table; name another page")
    else:
        text = "".join(f"## {titles[name]}\n\n<!-- table: {name} -->\n<!-- end -->\n\n" for name in tables)
    return _TABLE.sub(made, text)
