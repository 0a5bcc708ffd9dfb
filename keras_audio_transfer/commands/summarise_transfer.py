"""Make tables and pictures of several transfers, from the results.csv of each.

    keras-audio-transfer summarise-transfer transfers/*/results.csv --page transfers/README.md

The page gets its tables between the lines '<!-- table: NAME -->' and '<!-- end -->'; what stands around them is kept.
A page that does not exist is made, with every table. Pictures are written beside it, one a source, target and network
with several fractions.
Numbers are means, plus or minus half the 95 % interval over the seeds, whose number stands in brackets. Several tables
may hold seeds of one cell: where settings.json lies beside them, no setting but --seed may differ.
"""

import re
from collections import Counter
from hashlib import sha256
from pathlib import Path

from keras_audio_transfer.commands import cli, pages
from keras_audio_transfer.commands.transfer import CARD, RENAMED, SETTINGS
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write, beside
from keras_audio_transfer.resume import difference, read_settings
from keras_audio_transfer.splits import FINGERPRINT

TITLES = {
    "accuracy": "Accuracy on the test clips, by fraction of the training clips",
    "transfer": "Fine-tuning minus scratch",
    "multiscale": "Multiscale minus plain input",
    "interaction": "What transfer brings with multiscale input, minus what it brings with plain input",
    "overall": "These differences, over all fractions, inputs and strategies",
    "network": "Difference between networks",
    "against_all": "Fine-tuning on a fraction of the training clips minus scratch on all of them",
    "enough": "The fraction of the training clips at which fine-tuning matches scratch on all of them",
    "effort": "Training clips, epochs and minutes of one training",
}


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("tables", type=Path, nargs="+", metavar="RESULTS.csv", help="what `transfer` writes")
    parser.add_argument("--page", type=Path, required=True, metavar="PAGE.md", help="to write the tables to")
    return parser


def check_settings(table):
    """Refuse tables that hold seeds of one cell, but of other settings: their mean would be of nothing that was run."""
    from keras_audio_transfer import finetuning_results as results

    of_cell = {}
    for path, rows in table.groupby(level=0, sort=False):
        file = path.with_name(SETTINGS)
        if not file.is_file():
            continue
        settings = read_settings(file)
        for cell in rows[results.CELL].drop_duplicates().itertuples(index=False):
            first, before = of_cell.setdefault(cell, (path, settings))
            if found := difference_but_for_seeds(before, settings):
                what = f"holds seeds of a cell that {first} holds seeds of, with another setting ({found})"
                raise InputError(f"{path}: {what}; expected the same settings; summarise the two on pages of their own")


def difference_but_for_seeds(before, now):
    """The first setting that differs, but for the seed and what follows from it: which clips are held out."""
    if before.get("seed") != now.get("seed"):
        before, now = map(without_seed, (before, now))
    return difference(before, now, RENAMED, added=[FINGERPRINT, CARD])


def without_seed(settings):
    left = {name: value for name, value in settings.items() if name not in ("seed", FINGERPRINT)}
    return {**left, "division": re.sub(r"\(seed \d+\)", "(any seed)", str(settings.get("division")))}


def pictures(page, table):
    """(path, title, rows) of a picture beside the page for each source, target and network with several fractions."""
    every = table.groupby(["source", "target", "network"])
    groups = {key: rows for key, rows in every if rows["fraction"].nunique() > 1}
    names = {key: ".".join(re.sub(r"\W+", "_", name) for name in key) for key in groups}
    alike = Counter(name.casefold() for name in names.values())
    for key, rows in groups.items():
        name = names[key]
        if alike[name.casefold()] > 1:  # a-b and a+b
            name += f".{sha256(repr(key).encode()).hexdigest()[:8]}"
        source, target, network = key
        yield beside(page.with_name(name), ".png"), f"{source} to {target}, {network}", rows


@cli.command(arguments)
def main(options):
    cli.check_file("--page", options.page)

    from keras_audio_transfer import finetuning_results as results

    table = results.read(options.tables)
    check_settings(table)
    text = pages.with_tables(options.page, results.tables(table), TITLES)
    with atomic_write(options.page) as partial:
        partial.write_text(text, encoding="utf-8")

    from keras_audio_transfer.training import plots as training_plots

    for path, title, rows in pictures(options.page, table):
        with cli.picture():
            training_plots.transfer_curves(rows, path, title)
    cli.show(f"written: {options.page}")
    return cli.DONE
