"""Work out what many hours of audio cost, from what `benchmark --growth` has measured.

    keras-audio-transfer summarise-scale figures.json --page scale.md

The page gets three tables between lines '<!-- table: NAME -->' and '<!-- end -->'; what stands around them is kept, and
a page that does not exist is made. `costs` and `limits` are of clips as long as those that were measured, `models` of
each model of `benchmark --sources`, for clips of that data set. What a clip costs is the slope of a
straight line through what was measured, so that starting a command is left out. The prices are examples.
"""

import math
from pathlib import Path

from keras_audio_transfer.commands import cli, pages
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write, read_json

TITLES = {"costs": "What it costs", "models": "Other models", "limits": "What gives out"}


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument(
        "figures",
        type=Path,
        nargs="+",
        metavar="FIGURES.json",
        help="the --output of `benchmark --growth`, and of --sources, where that is another",
    )
    parser.add_argument("--page", type=Path, required=True, metavar="PAGE.md", help="to write the tables to")
    parser.add_argument("--hours", type=cli.positive, metavar="N", default=1_000_000.0, help="of audio")
    parser.add_argument(
        "--core-hour-price", type=cli.not_negative, metavar="P", default=0.05, help="of a core for an hour"
    )
    parser.add_argument(
        "--gigabyte-month-price", type=cli.not_negative, metavar="P", default=0.02, help="of 1e9 bytes kept for a month"
    )
    return parser


def figures_in(paths):
    """The figures of several files together."""
    return {name: of_part for path in paths for name, of_part in dict(read_json(path)).items()}


def tables_of(figures, hours, core_hour_price, gigabyte_month_price):
    """The tables by their names; `figures`: of `benchmark --growth`, and perhaps of `--sources`."""
    import pandas as pd

    from keras_audio_transfer.commands.benchmarks.growth import RATE, UNHEARD
    from keras_audio_transfer.dask_cluster import TASK_SECONDS
    from keras_audio_transfer.feature_tables.shards import CLIPS_A_SHARD
    from keras_audio_transfer.preparation import SHARD_BYTES

    rows = pd.DataFrame(figures["growth"]["rows"])
    clips = hours * 3600 / figures["growth"]["clip_seconds"]

    def of_all(verb, cost, varied="clips"):
        return clips * _slope(rows[(rows["verb"] == verb) & (rows["varied"] == varied)], cost)

    def costs(name, core_hours, n_bytes):
        return {
            "": name,
            "core-hours": _shown(core_hours),
            "written, TB": _shown(n_bytes / 1e12, 2),
            "money for cores": _shown(core_hours * core_hour_price),
            "money a month for storage": _shown(n_bytes / 1e9 * gigabyte_month_price),
        }

    def costs_of_model(name, ours, clips):
        return costs(name, clips * ours["core_milliseconds_a_clip"] / 3.6e6, clips * ours["feature_bytes_a_clip"])

    verbs = {
        verb: (of_all(verb, "core_seconds") / 3600, of_all(verb, "output_bytes")) for verb in ("prepare", "extract")
    }
    sources = figures.get("sources", {})
    n_clips = sources and hours * 3600 * sources["clips"] / sources["audio_seconds"]
    ours = {name: of["ours"] for name, of in sources.items() if isinstance(of, dict) and "ours" in of}
    limits = {
        "hours of audio": hours,
        "clips": clips,
        "TB that one process reads for checksums, of 16-bit sounds": hours * 3600 * RATE * 2 / 1e12,
        "GB of memory for the list of clips there": of_all("extract", "peak_megabytes", UNHEARD) / 1000,
        "hours of a core there, but for decoding and the network": of_all("extract", "core_seconds", UNHEARD) / 3600,
        "shards in the folder that `extract` writes": clips / CLIPS_A_SHARD,
        "shards in the folder that `prepare` writes": verbs["prepare"][1] / SHARD_BYTES,
        "tasks for the scheduler": verbs["extract"][0] * 3600 / TASK_SECONDS,
    }
    return {
        "costs": pd.DataFrame([costs(f"`{verb}`", *of_verb) for verb, of_verb in verbs.items()]),
        "models": pd.DataFrame([costs_of_model(name, of_model, n_clips) for name, of_model in ours.items()]),
        "limits": pd.DataFrame({"what": [*limits], "how much": [*map(_shown, limits.values())]}),
    }


def _shown(value, digits=0):
    if not math.isfinite(value):
        raise ValueError("not a number, or infinite")
    return f"{value:,.{digits}f}"


def _slope(rows, cost):
    """What one more costs."""
    import numpy as np

    return np.polyfit(rows["value"], rows[cost], 1)[0]


@cli.command(arguments)
def main(options):
    cli.check_file("--page", options.page, options.figures)
    try:
        how = options.hours, options.core_hour_price, options.gigabyte_month_price
        tables = tables_of(figures_in(options.figures), *how)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        files = " or ".join(map(str, options.figures))
        what = f"is not the --output of `benchmark --growth` or --sources ({type(error).__name__}); measure it again"
        raise InputError(f"{files}: {what}") from error
    text = pages.with_tables(options.page, tables, TITLES)
    with atomic_write(options.page) as partial:
        partial.write_text(text, encoding="utf-8")
    cli.show(f"written: {options.page}")
    return cli.DONE
