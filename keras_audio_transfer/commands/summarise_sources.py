"""Make the tables of several comparisons of sources, from the folders that 'compare' writes.

    keras-audio-transfer summarise-sources comparisons/esc10 comparisons/emodb --page sources.md

The page gets a table a comparison, named as its folder, between the lines '<!-- table: NAME -->' and '<!-- end -->'.
That of the name 'overview' has of each source and comparison the combination that was chosen, or of a source with one
layer that layer. What stands around them is kept. A page that does not exist is made, with every table.
Numbers are nested estimates with their 95 % interval over the folds.
"""

from pathlib import Path

from keras_audio_transfer.commands import cli, pages
from keras_audio_transfer.commands.compare import CHOICES, DIFFERENCES, SCORES, read_scores
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write

OVERVIEW = "overview"


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="COMPARISON", help="a folder that 'compare' wrote")
    parser.add_argument("--page", type=Path, required=True, metavar="PAGE.md", help="to write the tables to")
    return parser


def scores_of(folder):
    """The rows of a comparison."""
    for name in (SCORES, DIFFERENCES):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: has no {name}; expected a folder that 'compare' has written to its end")
    path = folder / SCORES
    scores = read_scores(path)
    if not len(scores):
        raise InputError(f"{path}: has no rows; expected the table that 'compare' writes")
    return scores


def cell(row):
    """A score and its interval; of a single fold regression has none."""
    if row["interval_low"] == row["interval_low"]:
        return f"{row['score']:.3f} ({row['interval_low']:.3f} to {row['interval_high']:.3f})"
    return f"{row['score']:.3f}"


def table_of(scores):
    """A row a source, a column a choice."""
    import pandas as pd

    texts = scores.assign(text=scores.apply(cell, axis=1)).pivot(index="source", columns="choice", values="text")
    texts = texts.reindex(index=scores["source"].unique(), columns=[c for c in CHOICES if c in {*scores["choice"]}])
    return pd.DataFrame({"source": texts.index, **{name: texts[name].fillna("").to_numpy() for name in texts}})


def overview_of(comparisons):
    """A row a source, a column a comparison: the last of its choices, which is 'chosen' where there is a choice."""
    import pandas as pd

    last = {
        name: scores.groupby("source", sort=False).last().apply(cell, axis=1) for name, scores in comparisons.items()
    }
    texts = pd.DataFrame(last)
    order = dict.fromkeys(source for scores in comparisons.values() for source in scores["source"])
    texts = texts.reindex([*order]).fillna("")
    return pd.DataFrame({"source": texts.index, **{name: texts[name].to_numpy() for name in texts}})


def tables_of(folders):
    """The tables by their names; `folders`: of comparisons."""
    comparisons = {}
    for folder in folders:
        name = folder.resolve().name
        if name in (*comparisons, OVERVIEW):
            raise InputError(f"{folder}: {name!r} is the name of another table; rename the folder")
        comparisons[name] = scores_of(folder)
    return {OVERVIEW: overview_of(comparisons), **{name: table_of(scores) for name, scores in comparisons.items()}}


@cli.command(arguments)
def main(options):
    cli.check_file("--page", options.page)
    tables = tables_of(options.folders)
    text = pages.with_tables(options.page, tables, {name: name.capitalize() for name in tables})
    with atomic_write(options.page) as partial:
        partial.write_text(text, encoding="utf-8")
    cli.show(f"written: {options.page}")
    return cli.DONE
