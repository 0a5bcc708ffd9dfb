"""List the published networks that `import` knows: trained on what, good for what, how large, under which licence.

    keras-audio-transfer models
    keras-audio-transfer models --format csv

Operations are the additions and multiplications of convolutions and matrix products: what a network costs on any
machine. Files of weights are not part of this package: `import` reads the published ones.
"""

import sys

from keras_audio_transfer.commands import cli
from keras_audio_transfer.pretrained.catalogue import CATALOGUE

FORMATS = ("text", "csv")


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("--format", metavar="NAME", choices=FORMATS, default="text", help="one of %(choices)s")
    return parser


@cli.command(arguments)
def main(options):
    rows = [
        {
            "name": name,
            "trained on": entry.trained_on,
            "good for": entry.good_for,
            "parameters": entry.weights,
            "operations": entry.operations * 10**6,
            "licence": entry.licence,
            "commercial use": "yes" if entry.commercial_use else "no",
            "file": entry.file,
            "published at": entry.url or "where pip finds wheels",
            "note": entry.note,
        }
        for name, entry in CATALOGUE.items()
    ]
    if options.format == "csv":
        import pandas as pd

        # The column keeps the name under which it is read.
        pd.DataFrame(rows).rename(columns={"parameters": "weights"}).to_csv(sys.stdout, index=False)
        return cli.DONE
    for row in rows:
        row["operations"] = f"{row['operations'] // 10**6} million a second of sound"
        cli.show(
            f"{row.pop('name')}\n" + "\n".join(f"  {name + ':':<16}{value}" for name, value in row.items() if value)
        )
    return cli.DONE
