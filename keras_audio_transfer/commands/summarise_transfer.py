"""Tables and pictures of several transfers, from the results.csv of each.

    python scripts/summarise_transfer.py transfers/*/results.csv --page transfers/README.md

The page gets its tables between the lines '<!-- table: NAME -->' and '<!-- end -->'; what stands around them is kept.
A page that does not exist is made, with every table. Pictures are written beside it, one a source, target and network
with several shares.
Numbers are means, plus or minus half the 95 % interval over the seeds, whose number stands in brackets.
"""

import re
from pathlib import Path

from keras_audio_transfer import finetuning_results as results
from keras_audio_transfer import plots
from keras_audio_transfer.commands import cli
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write

TITLES = {
    "accuracy": "Accuracy on the test clips, by share of the training clips",
    "transfer": "Fine-tuning minus scratch",
    "multiscale": "Multiscale minus plain input",
    "interaction": "What transfer brings with multiscale input, minus what it brings with plain input",
    "overall": "These differences, over all shares, inputs and strategies",
    "network": "Difference between networks",
    "against_all": "Fine-tuning on a share of the training clips minus scratch on all of them",
    "enough": "The share of the training clips at which fine-tuning matches scratch on all of them",
    "effort": "Training clips, epochs and minutes of one training",
}


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("tables", type=Path, nargs="+", metavar="RESULTS.csv", help="from scripts/transfer.py")
    parser.add_argument("--page", type=Path, required=True, metavar="PAGE.md", help="to write the tables to")
    return parser


def markdown(table):
    rows = [[*table], ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_tables(text, tables, page):
    """The page's text with its tables made anew."""

    def made(match):
        if match[1] not in tables:
            raise InputError(f"{page}: wants a table {match[1]!r}; these results have {', '.join(tables)}")
        return f"<!-- table: {match[1]} -->\n{markdown(tables[match[1]])}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", made, text, flags=re.DOTALL)


@cli.command(arguments)
def main(options):
    cli.refuse_folder(options.page)
    table = results.read(options.tables)
    tables = results.tables(table)
    if options.page.exists():
        text = options.page.read_text(encoding="utf-8")
        if "<!-- table: " not in text:
            raise InputError(f"{options.page}: has no line '<!-- table: NAME -->' for a table; name another page")
    else:
        text = "".join(f"## {TITLES[name]}\n\n<!-- table: {name} -->\n<!-- end -->\n\n" for name in tables)
    text = with_tables(text, tables, options.page)
    for (source, target, network), rows in table.groupby(["source", "target", "network"]):
        if rows["fraction"].nunique() > 1:
            path = options.page.with_name(f"{source}.{target}.{network}.png")
            plots.transfer_curves(rows, path, f"{source} to {target}, {network}")
    with atomic_write(options.page) as partial:
        partial.write_text(text, encoding="utf-8")
    print(f"written: {options.page}")
