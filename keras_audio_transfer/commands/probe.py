"""Fit SVM probes on a features file: what does each layer know of the task?

    python scripts/probe.py esc10.npz --output-dir probes/esc10 --combinations all --baseline esc10_mfcc.npz

--protocol nested    scaling and parameters are chosen inside each training part of the data set's own folds or splits
--protocol choi2017  unscaled, and the best of the grid on the very folds that are reported, as in the 2017 paper

scores.csv gets a row per combination: mean, deviation, 95 % interval, each fold. A run that was killed continues where
it stopped when it is started again with the same arguments; its results are the same as if it had not been killed.
"""

import argparse
import hashlib
from pathlib import Path

import pandas as pd

from keras_audio_transfer.commands import cli
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_table import FeatureTable
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.probing.cross_validation import CHOI2017, NESTED, PROTOCOLS
from keras_audio_transfer.probing.grid_search import GRID
from keras_audio_transfer.probing.layer_selection import EXHAUSTIVE_LAYERS, wanted_combinations
from keras_audio_transfer.probing.prober import CHOSEN_ON, Prober
from keras_audio_transfer.resume import Journal, check_settings

SHOWN = ["layers", "n_features", "score", "deviation", "interval_low", "interval_high"]


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("features", type=Path, metavar="FEATURES.npz", help="from scripts/extract.py")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="for scores.csv and the pictures")
    parser.add_argument("--protocol", default=NESTED, help=f"{' or '.join(PROTOCOLS)}, see above")
    parser.add_argument(
        "--combinations",
        default="layers",
        help="layers (each one, and all together), all (all 2^n - 1), '<=2' (all of one or two layers), a list such as "
        "layer1,layer2+layer3; or a choice where parameters are chosen: forward, backward, or best (of all for up to "
        f"{EXHAUSTIVE_LAYERS} layers, then forward)",
    )
    parser.add_argument(
        "--scale",
        action=argparse.BooleanOptionalAction,
        help="bring each channel to mean 0 and deviation 1 over the clips fitted on (nested: yes; choi2017: no)",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="MFCC.npz",
        help="other features of the same clips: probed alone, and joined to every combination; with forward, backward "
        "or best they join the choice",
    )
    parser.add_argument(
        "--compare",
        action="append",
        default=[],
        metavar="NAME=SCORES.csv",
        help="draw the best score there as a line, such as 'random weights=probes/random/scores.csv'; several of one "
        "name (seeds) give their mean",
    )
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="TASK=SCORES.csv",
        help="another task's table; draw all of them and this one in one picture, layers x tasks",
    )
    parser.add_argument("--target", help="which of several numbers a clip to predict (regression)")
    parser.add_argument("--jobs", type=int, default=2, help="combinations worked on at a time")
    return parser


def tables(arguments, flag):
    """[(name, table)] of arguments NAME=SCORES.csv."""
    result = []
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals or not Path(path).is_file():
            raise InputError(f"{flag}: {argument!r} names no table; expected NAME=SCORES.csv")
        table = read_scores(path)
        if table is None:
            raise InputError(
                f"{flag}: {path} has no scores, one a combination; expected the scores.csv of scripts/probe.py"
            )
        result.append((name, table))
    return result


def read_scores(path, columns=("score",)):
    """The table in a file; None if it is no such table: it has to have these columns of numbers."""
    try:
        table = pd.read_csv(path, converters={"layers": str}, dtype=dict.fromkeys(columns, float))
    except ValueError:  # empty, no text, no table, or text where a number belongs
        return None
    if not {"layers", *columns} <= {*table} or table.empty or table["score"].isna().any():
        return None
    return table if table["layers"].is_unique else None


def finished_scores(path, prober, wanted):
    """The table of a run that has ended, in its own folder."""
    columns = ["score", "deviation", "interval_low", "interval_high", "chance", *(r.name for r in prober.outer_folds)]
    scores = read_scores(path, columns)
    layers = None if callable(wanted) else ["+".join(combination) for combination in wanted]
    if scores is None or not {*SHOWN, "metric", "parameters"} <= {*scores} or layers not in (None, [*scores["layers"]]):
        raise InputError(f"{path}: is not the table that this run would have written; remove it to probe again")
    return scores


def mean_best(named_tables):
    """{'name, best combination': mean of the best scores of that name's tables}."""
    best = [(f"{name}, best combination", table["score"].max()) for name, table in named_tables]
    best = pd.DataFrame(best, columns=["name", "score"])
    return best.groupby("name", sort=False)["score"].mean().to_dict()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def draw(options, scores, prober, description, lines, beside, baseline):
    """The pictures of a finished table."""
    from keras_audio_transfer import plots

    if (scores["layers"] == baseline).any():
        lines = {baseline: scores.loc[scores["layers"] == baseline, "score"].iloc[0], **lines}
    title = f"{options.features.stem}\n{description}"
    named = scores[[set(layers.split("+")) <= set(prober.features.layers) for layers in scores["layers"]]]
    counts = None
    if len(named) and not prober.features.is_regression:
        best = named.loc[named["score"].idxmax()]
        counts = prober.confusion(best)
    tasks = {options.features.stem: scores, **dict(beside)}
    columns = {name: table.set_index("layers")["score"] for name, table in tasks.items()}
    for suffix in ("png", "svg"):
        if beside:
            plots.heat_map(plots.side_by_side(columns), options.output_dir / f"tasks.{suffix}", "Layers x tasks")
        plots.ranked(scores, options.output_dir / f"scores.{suffix}", title, lines)
        if len(named) > 1:
            plots.against_dimensions(named, options.output_dir / f"dimensions.{suffix}", title, lines)
        if (~named["layers"].str.contains("+", regex=False)).sum() > 1:
            plots.depth(named, options.output_dir / f"depth.{suffix}", title, lines)
        if counts is not None:
            names = prober.features.label_names
            path = options.output_dir / f"confusion.{suffix}"
            plots.confusion(counts, names, path, f"{options.features.stem}: {best['layers']}")


@cli.command(arguments)
def main(options):
    if options.jobs < 1:
        raise InputError(f"--jobs: {options.jobs} is not allowed; expected 1 or more")
    if options.protocol not in PROTOCOLS:
        raise InputError(f"--protocol: {options.protocol!r} is unknown; choose from {', '.join(PROTOCOLS)}")
    lines, beside = mean_best(tables(options.compare, "--compare")), tables(options.beside, "--beside")
    columns = [options.features.stem, *(name for name, _ in beside)]
    for name in columns:
        if columns.count(name) > 1:
            raise InputError(f"--beside: {name!r} names two tables (this run's is {columns[0]!r}); rename one")
    features = FeatureTable.load(options.features).of_target(options.target)
    names, alone = tuple(features.layers), ()
    if options.baseline:
        baseline = FeatureTable.load(options.baseline)
        features, alone = features.join(baseline, str(options.baseline)), tuple(baseline.layers)
    wanted = wanted_combinations(options.combinations, names, alone)
    try:
        prober = Prober(features, options.protocol, options.scale, options.seed, options.jobs)
    except InputError as error:
        raise InputError(f"{options.features}: {error}") from error
    scaling = "each channel scaled" if prober.scale else "not scaled"
    description = f"{prober.description}; {scaling}"
    cli.say(options, f"{options.features}: {description}")

    options.output_dir.mkdir(parents=True, exist_ok=True)
    settings = {
        "features": options.features.name,
        "features_sha256": sha256(options.features),
        "protocol": prober.protocol,
        "chosen_on": CHOSEN_ON[prober.protocol],
        "scale": prober.scale,
        "combinations": options.combinations,
        "target": options.target,
        "seed": options.seed,
        "grid": [str(point) for point in GRID],
    }
    if options.baseline:
        settings |= {"baseline": options.baseline.name, "baseline_sha256": sha256(options.baseline)}
    settings["evaluation"] = description  # follows from the others: they are named first where it differs
    config, path, unfinished = (options.output_dir / name for name in ("config.json", "scores.csv", "unfinished.jsonl"))
    left = [old.name for old in (path, unfinished) if old.exists()]
    if left and not config.exists():
        raise InputError(
            f"{options.output_dir}: holds results without their config.json; remove {' and '.join(left)} or choose "
            "another --output-dir"
        )
    check_settings(config, settings)
    if unfinished.exists() or not path.exists():
        with Journal(unfinished) as prober.record:
            progress = cli.progress_bar(options, "probing", prober.n_steps(wanted), unit="fit")(None)
            prober.step = progress.update
            rows = []
            for row in prober.rows(wanted):
                rows.append(row)
                with atomic_write(path) as partial:
                    pd.DataFrame(rows).to_csv(partial, index=False)
            progress.close()
    scores = finished_scores(path, prober, wanted)

    draw(options, scores, prober, description, lines, beside, "+".join(alone))
    unfinished.unlink(missing_ok=True)
    shown = [*SHOWN, *(name for name in ("chosen",) if name in scores)]
    print(scores[shown].to_string(index=False, float_format="{:.3f}".format))
    if prober.protocol == CHOI2017:
        print("The choice of parameters was made on the reported folds, as in the paper: these scores are optimistic.")
    print(f"written: {options.output_dir}")
