"""Fit SVM probes on a features file: what does each layer know of the task?

    keras-audio-transfer probe esc10.npz --output-dir probes/esc10 --combinations all --baseline esc10_mfcc.npz

scores.csv gets a row a combination: mean, standard deviation, 95 % interval, each fold. A run that was killed continues
where it stopped when it is started again with the same arguments; its results are the same as if it had not been
killed.
"""

import argparse
import hashlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from keras_audio_transfer.commands import cli, places
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_tables.files import layer_names_in
from keras_audio_transfer.feature_tables.shards import INDEX
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.probing.cross_validation import CHOI2017, NESTED, PROTOCOLS
from keras_audio_transfer.probing.layer_selection import EXHAUSTIVE_LAYERS, wanted_combinations
from keras_audio_transfer.probing.layer_weights import CHANNELS
from keras_audio_transfer.resume import Journal, check_settings

RESULTS, PICTURES = ("scores.csv", "unfinished.jsonl"), ("scores", "dimensions", "depth", "confusion", "tasks")
SHOWN = ["layers", "n_features", "score", "deviation", "interval_low", "interval_high"]


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("features", type=Path, metavar="FEATURES.npz", help="what `extract` or `mfcc` writes")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="for scores.csv and the pictures")
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        choices=PROTOCOLS,
        default=NESTED,
        help="one of %(choices)s. nested: scaling and parameters are chosen inside each training part of the data "
        "set's own folds or splits; choi2017: not scaled, and the best of the grid on the very folds that are "
        "reported, as in the 2017 paper",
    )
    parser.add_argument(
        "--combinations",
        default="layers",
        help="layers (each one, and all together), all (all 2^n - 1), '<=2' (all of one or two layers), a list such as "
        "layer1,layer2+layer3; or a choice where parameters are chosen: single (one layer), blocks (of each layer, "
        "each two neighbours, each quarter of the depth, and all), forward, greedy (forward until two steps in a row "
        f"have not helped), backward, or best (of all for up to {EXHAUSTIVE_LAYERS} layers, then forward)",
    )
    parser.add_argument(
        "--scale",
        action=argparse.BooleanOptionalAction,
        help="bring each channel to mean 0 and standard deviation 1 over the clips fitted on (default: yes for nested, "
        "no for choi2017)",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="MFCC.npz",
        help="other features of the same clips: probed alone, and joined to every combination; where layers are chosen "
        "they join the choice",
    )
    add_comparison_arguments(parser)
    cli.add_layer_weights_argument(parser)
    parser.add_argument("--target", metavar="NAME", help="which of several numbers a clip to predict (regression)")
    cli.add_jobs_argument(parser)
    cli.add_scheduler_argument(parser, "fit the SVMs")
    return parser


def add_comparison_arguments(parser):
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


# ---- tables of other runs


def tables(arguments, flag):
    """[(name, table)] of arguments NAME=SCORES.csv."""
    result = []
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals or not Path(path).is_file():
            raise InputError(f"{flag}: {argument!r} names no table; expected NAME=SCORES.csv")
        table = read_scores(path)
        if table is None:
            raise InputError(f"{flag}: {path} has no scores, one a combination; expected the scores.csv of `probe`")
        result.append((name, table))
    return result


def read_scores(path, columns=("score",)):
    """The table in a file; None if it is no such table: it has to have these columns of numbers."""
    import pandas as pd

    try:
        numbers = dict.fromkeys(columns, float)
        table = pd.read_csv(path, converters={"layers": str}, dtype=numbers, float_precision="round_trip")
    except ValueError:  # empty, no text, no table, or text where a number belongs
        return None
    if not {"layers", *columns} <= {*table} or table.empty or table["score"].isna().any():
        return None
    return table if table["layers"].is_unique else None


def mean_best(named_tables):
    """{'name, best combination': mean of the best scores of that name's tables}."""
    best = {}
    for name, table in named_tables:
        best.setdefault(f"{name}, best combination", []).append(table["score"].max())
    return {name: sum(scores) / len(scores) for name, scores in best.items()}


def tables_beside(options):
    """The tables of --beside, each of another name, which is not this run's either."""
    beside = tables(options.beside, "--beside")
    columns = [options.features.stem, *(name for name, _ in beside)]
    for name in columns:
        if columns.count(name) > 1:
            raise InputError(f"--beside: {name!r} names two tables (this run's is {columns[0]!r}); rename one")
    return beside


# ---- this run


def wanted_layers(options, paths):
    """The layers to load of the features file (None: all), the combinations, and that of the baseline's layers."""
    names, *of_baseline = map(layer_names_in, paths)
    alone = tuple(*of_baseline)
    wanted = wanted_combinations(options.combinations, tuple(names), alone)
    probed = [name for name in names if callable(wanted) or any(name in combination for combination in wanted)]
    return None if probed == names else tuple(probed), wanted, "+".join(alone)


def joined_features(paths, layers, target):
    """These layers of the first file, joined with all that is in a second one, which is the baseline's."""
    path, *baseline = paths
    features = FeatureTable.load(path, layers).of_target(target)
    for other in baseline:
        features = features.join(FeatureTable.load(other), str(other))
    return features


def features_on_worker(load, paths, checksums, *arguments):
    """What `load` makes of the features files, if they are those with these checksums."""
    for path, checksum in zip(paths, checksums, strict=True):
        if sha256(path) != checksum:
            raise InputError(f"{path}: is another file than where the command runs; share one")
    return load(paths, *arguments)


def scores_on(cluster, prober, load, paths, *arguments):
    """What computes the prober's scores on a cluster.

    Args:
        cluster: the `Cluster`.
        prober: of the features.
        load: from the paths and the arguments to the features, on a worker.
        paths: of features files.
        *arguments: that can be hashed.
    """
    from keras_audio_transfer.probing.grid_search import scores_on_worker

    paths = tuple(path.absolute() for path in paths)
    of_features = load, paths, tuple(map(sha256, paths)), *arguments

    def killed(work, reason):
        raise InputError(f"scheduler: {'+'.join(work[0])}: {reason}; give workers more memory, and run this again")

    def elsewhere(part, work):
        how = features_on_worker, of_features, prober.scale, prober.layer_weights, part
        return cluster.map(partial(scores_on_worker, *how), work, killed, paths)

    return elsewhere


def prober_of(options, features):
    from keras_audio_transfer.probing.prober import Prober

    try:
        return Prober(
            features, options.protocol, options.scale, options.seed, options.jobs, layer_weights=options.layer_weights
        )
    except InputError as error:
        raise InputError(f"{options.features}: {error}") from error


def described(prober):
    return f"{prober.description}; {'each channel scaled' if prober.scale else 'not scaled'}"


def settings_of(options, prober):
    """What a run that is continued must have in common with the one that was killed."""
    from keras_audio_transfer.probing.grid_search import GRID
    from keras_audio_transfer.probing.prober import CHOSEN_ON

    settings = {
        "features": options.features.name,
        "features_sha256": sha256(options.features),
        "protocol": prober.protocol,
        "chosen_on": CHOSEN_ON[prober.protocol],
        "scale": prober.scale,
        "combinations": options.combinations,
        "target": options.target,
        "seed": options.seed,
        "grid": [str(params) for params in GRID],
    }
    if options.baseline:
        settings |= {"baseline": options.baseline.name, "baseline_sha256": sha256(options.baseline)}
    if options.layer_weights != CHANNELS:  # as it was before there was a choice
        settings["layer_weights"] = options.layer_weights
    return {**settings, "evaluation": described(prober)}  # follows from the others: they are named first


def sha256(path):
    """Of a features file; of a folder, of what has the checksums of all that is in it."""
    return hashlib.sha256((path / INDEX if path.is_dir() else path).read_bytes()).hexdigest()


def check_place(options):
    """Refuse a folder that cannot be written to, or where results would replace an input; keep other runs away."""
    places.check_folder("--output-dir", options.output_dir)
    pictures = (f"{name}{suffix}" for name in PICTURES for suffix in (".png", ".svg"))
    for name in (*RESULTS, "config.json", "predictions.csv", "classes.csv", *pictures):
        places.check_no_input("--output-dir", options.output_dir / name, [options.features, options.baseline])
    kept = [options.output_dir / name for name in RESULTS]
    places.check_state("--output-dir", kept, options.output_dir / "config.json", [options.features, options.baseline])
    places.lock(options.output_dir)


def open_folder(options, settings):
    """Make the folder of the results, or refuse that of another run."""
    options.output_dir.mkdir(parents=True, exist_ok=True)
    check_settings(options.output_dir / "config.json", settings)


def probe(options, prober, wanted):
    """Write scores.csv, a row as soon as it is known; a run that has ended is not repeated."""
    path, unfinished = options.output_dir / "scores.csv", options.output_dir / "unfinished.jsonl"
    if path.exists() and not unfinished.exists():
        return
    import pandas as pd

    with Journal(unfinished) as prober.record:
        progress = cli.Phases(options, "probing").bar("probing", prober.n_steps(wanted), "fit")()
        prober.step = progress.update
        rows = []
        for row in prober.rows(wanted):
            rows.append(row)
            with atomic_write(path) as partial:
                pd.DataFrame(rows).to_csv(partial, index=False)
        progress.close()


def finished_scores(path, prober, wanted):
    """The table of a run that has ended, in its own folder."""
    columns = ["score", "deviation", "interval_low", "interval_high", "chance", *(r.name for r in prober.outer_folds)]
    scores = read_scores(path, columns)
    layers = None if callable(wanted) else ["+".join(combination) for combination in wanted]
    if scores is None or not {*SHOWN, "metric", "parameters"} <= {*scores} or layers not in (None, [*scores["layers"]]):
        raise InputError(f"{path}: is not the table that this run would have written; remove it to probe again")
    return scores


def show(scores, protocol):
    shown = [*SHOWN, *(name for name in ("chosen",) if name in scores)]
    cli.show(scores[shown].to_string(index=False, float_format="{:.3f}".format))
    if protocol == CHOI2017:
        text = "The choice of parameters was made on the reported folds, as in the paper: these scores are optimistic."
        cli.show(text)


# ---- pictures


@dataclass(frozen=True)
class Picture:
    """What the pictures of a finished table show beside it.

    Attributes:
        title: of each.
        lines: name -> score, of other runs.
        beside: [(task, table)].
        baseline: the combination of the baseline's layers; '' where there is none.
    """

    title: str
    lines: dict = field(default_factory=dict)
    beside: list = field(default_factory=list)
    baseline: str = ""


def draw(options, scores, prober, picture):
    """The pictures of a finished table, and the predictions that one of them sums up."""
    from keras_audio_transfer import picture_labels, plots
    from keras_audio_transfer.probing import predictions

    lines = picture.lines
    if (scores["layers"] == picture.baseline).any():
        lines = {picture.baseline: scores.loc[scores["layers"] == picture.baseline, "score"].iloc[0], **lines}
    named = scores[[set(layers.split("+")) <= set(prober.features.layers) for layers in scores["layers"]]]
    shown = scores.iloc[0] if named.empty else named.loc[named["score"].idxmax()]  # a method's only row, or the best
    held_out = prober.held_out(shown, probabilities=True)
    counts = predictions.write(options.output_dir, prober.features, held_out)
    tasks = {options.features.stem: scores, **dict(picture.beside)}
    columns = {name: table.set_index("layers")["score"] for name, table in tasks.items()}
    with cli.picture():
        if picture.beside:
            plots.heat_map(plots.side_by_side(columns), options.output_dir / "tasks.*", "Layers x tasks")
        plots.ranked(scores, options.output_dir / "scores.*", picture.title, lines)
        if len(named) > 1:
            plots.against_dimensions(named, options.output_dir / "dimensions.*", picture.title, lines)
        if (~named["layers"].str.contains("+", regex=False)).sum() > 1:
            plots.depth(named, options.output_dir / "depth.*", picture.title, lines)
        if counts is not None:
            path, about = options.output_dir / "confusion.*", picture_labels.of_row(shown, len(named))
            plots.confusion(counts, prober.features.label_names, path, options.features.stem, about)


@cli.command(arguments)
def main(options):
    check_place(options)
    cluster = cli.cluster_of(options)
    lines, beside = mean_best(tables(options.compare, "--compare")), tables_beside(options)
    paths = [path for path in (options.features, options.baseline) if path]
    layers, wanted, baseline = wanted_layers(options, paths)
    features = joined_features(paths, layers, options.target)
    prober = prober_of(options, features)
    prober.elsewhere = cluster and scores_on(cluster, prober, joined_features, paths, layers, options.target)
    cli.say(options, f"{options.features}: {described(prober)}")
    open_folder(options, settings_of(options, prober))
    probe(options, prober, wanted)
    scores = finished_scores(options.output_dir / "scores.csv", prober, wanted)
    show(scores, prober.protocol)
    draw(options, scores, prober, Picture(f"{options.features.stem}\n{described(prober)}", lines, beside, baseline))
    (options.output_dir / "unfinished.jsonl").unlink(missing_ok=True)
    cli.show(f"written: {options.output_dir}")
    return cli.DONE
