"""Make tables and pictures of several transfers, from the results.csv of each.

    keras-audio-transfer summarise-transfer transfers/*/results.csv --page transfers/README.md

The page gets its tables between the lines '<!-- table: NAME -->' and '<!-- end -->'; what stands around them is kept.
A page that does not exist is made, with every table. Pictures are written beside it, one a source, target and network
with several fractions.
Numbers are means, plus or minus half the 95 % interval over the seeds, whose number stands in brackets.
"""

import re
from pathlib import Path

from keras_audio_transfer.commands import cli, pages
from keras_audio_transfer.files import atomic_write

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


def draw(page, table):
    """A picture beside the page for each source, target and network with several fractions."""
    from keras_audio_transfer import plots

    for (source, target, network), rows in table.groupby(["source", "target", "network"]):
        if rows["fraction"].nunique() > 1:
            words = [re.sub(r"\W+", "_", name) for name in (source, target, network)]
            path = page.with_name(f"{'.'.join(words)}.png")
            plots.transfer_curves(rows, path, f"{source} to {target}, {network}")


@cli.command(arguments)
def main(options):
    cli.check_file("--page", options.page)

    from keras_audio_transfer import finetuning_results as results

    table = results.read(options.tables)
    text = pages.with_tables(options.page, results.tables(table), TITLES)
    draw(options.page, table)
    with atomic_write(options.page) as partial:
        partial.write_text(text, encoding="utf-8")
    cli.show(f"written: {options.page}")
    return cli.DONE
