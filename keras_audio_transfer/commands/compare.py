"""Which source? Probe several networks on the same clips, layer by layer and joined, beside the floors.

    keras-audio-transfer compare --models saved_models/yamnet saved_models/musicnn default --mfcc --log-mel \\
        --dataset esc10 --data-dir data/ESC-50 --output-dir comparisons/esc10

Of each source: its last layer, the best single layer, all layers joined, and the best combination (--combinations says
which are tried). With --join also of the layers of all sources, named SOURCE/LAYER. Whatever is chosen
is chosen inside each training part (nested), so that no score has a part in a choice; folds are the data set's own.
differences.csv has what lies between two sources, fold by fold, with its 95 % interval. A run that was killed continues
when it is started again.
"""

import itertools
import math
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from keras_audio_transfer.commands import cli, places
from keras_audio_transfer.datasets.clip import digest
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_table import FeatureTable
from keras_audio_transfer.files import (
    atomic_write,
    failures_beside,
    number_in,
    read_json,
    scratch_folder,
    write_failures,
    write_json,
)
from keras_audio_transfer.model_folder import Card, latest_saved_model
from keras_audio_transfer.probing.layer_selection import EXHAUSTIVE_LAYERS, METHODS, single, thorough
from keras_audio_transfer.probing.layer_weights import CHANNELS
from keras_audio_transfer.resume import Journal, check_settings
from keras_audio_transfer.splits import FINGERPRINT

FLOORS = ("mfcc", "log_mel")
JOINED, RANDOM = "joined", " (random)"
LAST, SINGLE, ALL, CHOSEN = CHOICES = ("last layer", "best single layer", "all layers", "chosen")
BEST, *_ = WAYS = ("best", *(name for name in METHODS if METHODS[name] is not single))
SCORES, CONFIG, FEATURES = "scores.csv", "config.json", "features"
DIFFERENCES = "differences.csv"
CARDS = "cards_sha256"  # the setting that holds what the sources' answers depend on
RESULTS = (SCORES, DIFFERENCES, CONFIG, "sources.png", "sources.svg")
TEXTS = ("source", "choice", "chosen", "metric", "chosen_on", "parameters", "chosen_by_round")
MAY_LACK = ("seconds_a_clip", "deviation", "interval_low", "interval_high")  # of `joined`, and of a single fold
SHOWN = ["source", "choice", "chosen", "n_features", "score", "deviation", "interval_low", "interval_high"]
COLUMNS = {*SHOWN, "metric", "chance", "chosen_on", "parameters"}
ROUNDING = 1e-9  # of numbers that are computed again


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--models",
        type=places.model_folder,
        nargs="*",
        default=[],
        metavar="MODEL_DIR",
        help="model folders; 'default' is the one that comes with the package",
    )
    parser.add_argument("--mfcc", action="store_true", help="beside them the MFCC baseline")
    parser.add_argument("--log-mel", action="store_true", help="beside them statistics of a log-mel spectrogram")
    parser.add_argument("--random", action="store_true", help="beside each model the same network with random weights")
    parser.add_argument("--join", action="store_true", help="beside them the layers of all models in one choice")
    parser.add_argument(
        "--combinations",
        metavar="NAME",
        choices=WAYS,
        default=BEST,
        help="how the best combination is found, one of %(choices)s. best: of all for up to "
        f"{EXHAUSTIVE_LAYERS} layers, then greedy; blocks: of each layer, two or more neighbours, and all; forward: "
        "adding a layer at a time; greedy: forward until two steps in a row have not helped; backward: leaving out a "
        "layer at a time",
    )
    cli.add_layer_weights_argument(parser)
    cli.add_dataset_arguments(parser)
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="for the tables and the picture")
    cli.add_workers_argument(parser)
    cli.add_jobs_argument(parser)
    return parser


def sources_of(options):
    """Name -> model folder; None for a floor."""
    models = places.by_name("--models", options.models)
    for name in models:
        if name in (*FLOORS, JOINED) or name.endswith(RANDOM):
            raise InputError(f"--models: {name!r} is the name of another source; rename the folder")
    floors = {name: None for name, wanted in zip(FLOORS, (options.mfcc, options.log_mel), strict=True) if wanted}
    if options.random:
        models |= {f"{name}{RANDOM}": path for name, path in models.items()}
    if len(models) + len(floors) < 2:
        raise InputError("--models: nothing to compare; name two or more, or one beside --mfcc, --log-mel or --random")
    if options.join and len(options.models) < 2:
        raise InputError("--join: joins the layers of two or more models; name them with --models")
    return models | floors


def name_of_clips(options):
    """What the picture calls the data set; one of the user's own by its folder."""
    if options.data_dir is None or options.dataset not in ("folder", "manifest"):
        return options.dataset
    place = options.data_dir.resolve()
    return place.name if place.is_dir() else place.parent.name


def check(options, sources):
    """Refuse what cannot end well, before any work is done."""
    if options.dataset is None:
        raise InputError("--dataset: is missing; name one, or manifest or folder with --data-dir for clips of your own")
    places.check_folder("--output-dir", options.output_dir)
    for name in RESULTS:
        places.check_no_input("--output-dir", options.output_dir / name, [options.data_dir])
    kept = [options.output_dir / SCORES, options.output_dir / FEATURES]
    kept += [unfinished(options, name) for name in [*sources, JOINED]]
    places.check_state("--output-dir", kept, options.output_dir / CONFIG, [options.data_dir])
    failures_beside(options.output_dir / SCORES)
    places.lock(options.output_dir)
    for path in filter(None, sources.values()):
        Card.read(path).require_single_clips(path, "a comparison does not have")
        latest_saved_model(path)


def check_clips(options, clips, label_names):
    """Refuse clips that cannot be scored, while nothing has been computed."""
    from keras_audio_transfer.probing.cross_validation import outer_folds

    try:
        outer_folds(FeatureTable.of_clips({}, clips, label_names), options.seed)
    except InputError as error:
        raise InputError(f"{options.data_dir or options.dataset}: {error}") from error


# ---- features


def features_of(options, name, path, clips, label_names, phases):
    """A source's features, from the run that was killed where it got so far; and what they cost."""
    file = options.output_dir / FEATURES / f"{name}.npz"
    about = file.with_suffix(".json")
    if file.exists() and about.exists():
        table, cost = FeatureTable.load(file), read_json(about)
        if not (_is_cost(cost) and _is_of(table, clips, label_names)):
            raise InputError(f"{file}: is not what this run had kept, or {about.name} is not; remove both to go on")
        return table, cost
    begin = time.monotonic()
    progress = phases.bar(name, len(clips))
    if path is None:
        from keras_audio_transfer import mfcc

        table, failures = mfcc.FLOORS[name](clips, label_names, options.workers, progress)
    else:
        table, failures = _of_model(options, name, path, clips, label_names, progress)
    if not len(table):
        raise InputError(f"{name}: none of the {len(failures)} clips has features; {failures[0][1]}")
    cost = {"seconds_a_clip": (time.monotonic() - begin) / len(clips), "failures": failures}
    table.save(file)
    write_json(about, cost)
    return table, cost


def _is_cost(content):
    """Whether this is what `features_of` says of a source."""
    if not isinstance(content, dict) or not isinstance(content.get("seconds_a_clip"), int | float):
        return False
    failures = content.get("failures")
    pairs = isinstance(failures, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in failures)
    return pairs and all(isinstance(text, str) for pair in failures for text in pair)


def _is_of(table, clips, label_names):
    """Whether a table has these clips, but for those that failed, with what they say of themselves."""
    ids = {*map(str, table.clip_ids)}
    expected = FeatureTable.of_clips({}, [clip for clip in clips if clip.clip_id in ids], label_names)
    names = ("clip_ids", "labels", "folds", "splits")
    same = all(np.array_equal(getattr(table, name), getattr(expected, name)) for name in names)
    return same and [*table.label_names] == [*label_names]


def of_all_sources(tables):
    """The tables with the clips that every source has features of."""
    common = set.intersection(*({*map(str, table.clip_ids)} for table in tables.values()))
    if not common:
        raise InputError("--models: no clip has features of every source; see the first of them in failed.csv")
    return {name: _with_rows(table, [str(clip) in common for clip in table.clip_ids]) for name, table in tables.items()}


def _with_rows(table, kept):
    if all(kept):
        return table
    columns = {name: getattr(table, name) for name in ("clip_ids", "labels", "folds", "splits", "groups", "notes")}
    columns = {name: values if values is None else values[kept] for name, values in columns.items()}
    return replace(table, layers={name: values[kept] for name, values in table.layers.items()}, **columns)


def _of_model(options, name, path, clips, label_names, progress):
    from keras_audio_transfer import extraction
    from keras_audio_transfer.export import variants

    card = Card.read(path)
    with ExitStack() as stack:
        saved_model = latest_saved_model(path)
        if name.endswith(RANDOM):
            saved_model = stack.enter_context(scratch_folder(options.output_dir / "random")) / "1"
            variants.write_random(path, saved_model, options.seed)
        extractor = extraction.SavedExtractor(saved_model)
    layers = card.layer_names
    return extraction.extract(extractor, layers, clips, label_names, card.audio, options.workers, progress=progress)


def joined(tables):
    """The layers of all sources in one table, named SOURCE/LAYER."""
    result = None
    for name, table in tables.items():
        renamed = table.with_layer_names({layer: f"{name}/{layer}" for layer in table.layers})
        result = renamed if result is None else result.join(renamed, name)
    return result


# ---- scores


def unfinished(options, name):
    """The journal of a source whose scores are not yet in the table."""
    return options.output_dir / f"unfinished.{name}.jsonl"


def rows_of(options, name, table, phases):
    """A row a choice; of a source with one layer, one."""
    from keras_audio_transfer.probing.prober import Prober

    names = tuple(table.layers)
    chosen_by = thorough(names) if options.combinations == BEST else METHODS[options.combinations]
    wanted = {LAST: [names[-1:]], SINGLE: single, ALL: [names], CHOSEN: chosen_by}
    if len(names) == 1:
        wanted = {ALL: [names]}
    elif name == JOINED:
        del wanted[LAST]
    prober = Prober(table, seed=options.seed, n_jobs=options.jobs, layer_weights=options.layer_weights)
    progress = phases.bar(f"probing {name}", sum(map(prober.n_steps, wanted.values())), "fit")()
    prober.step = progress.update
    with Journal(unfinished(options, name)) as prober.record:  # what one choice has computed, the others need not
        for choice, combinations in wanted.items():
            (row,) = prober.rows(combinations)
            chosen = row.pop("chosen", row["layers"])
            yield {"source": name, "choice": choice, "chosen": chosen} | {k: v for k, v in row.items() if k != "layers"}
    progress.close()


def read_scores(path):
    """The rows that `compare` has written.

    Raises:
        InputError: it is another table, cut short, or edited.
    """
    import pandas as pd

    try:
        scores = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:  # no text, no columns, or rows of several lengths
        raise InputError(f"{path}: is no table; expected what compare writes; remove it") from error
    numbers = [name for name in scores if name not in TEXTS]
    scores[numbers] = scores[numbers].apply(lambda column: column.map(_number))
    given = [name for name in numbers if name not in MAY_LACK]
    whole = path.read_bytes().endswith(b"\n") and not scores[given].isna().any(axis=None)
    fault = _fault(scores) if whole else "it ends too soon, or holds what is no number"
    if fault:
        raise InputError(f"{path}: is not a table that compare writes, or not the whole of it ({fault}); remove it")
    return scores


def _number(text):
    """The number that was written, which not every version of pandas finds to the last digit; NaN for none."""
    number = number_in(text)
    return int(text) if text.isdecimal() and math.isfinite(number) else number


def fold_columns(scores):
    """The columns that hold a score each, of which `score` is the mean."""
    return [name for name in scores if name == "test" or name.startswith("fold_")]


def _fault(scores):
    """What a table has that no comparison gives, in a few words; '' where there is nothing."""
    folds, missing = fold_columns(scores), sorted(COLUMNS - {*scores})
    if missing or not folds:
        return f"it has no column {missing[0] if missing else 'of a fold'}"
    if not len(scores):
        return ""
    (metric, *others), is_chosen = scores["metric"].unique(), scores["choice"].isin([SINGLE, CHOSEN])
    low, score, high = scores["interval_low"], scores["score"], scores["interval_high"]
    least = -math.inf if metric == "r2" else 0.0
    rounds = scores.get("chosen_by_round", scores["source"].map(lambda source: ""))
    n_rounds = rounds.map(lambda text: len(text.split("; ")) if text else 0)
    within = [scores[name].between(least - ROUNDING, 1 + ROUNDING) for name in ("score", *folds)]
    is_there = low.notna() & high.notna()
    ordered = is_there & (least - ROUNDING <= low) & (low <= score + ROUNDING) & (score <= high + ROUNDING)
    ordered &= high <= 1 + ROUNDING
    none = low.isna() & high.isna() & (metric == "r2") & (len(folds) == 1)
    wrong = {
        "a source has no name": scores["source"] == "",
        "a choice is unknown": ~scores["choice"].isin(CHOICES),
        "a source has a choice twice": scores.duplicated(["source", "choice"]),
        "its metric is neither accuracy nor r2 in all rows": scores["metric"].map(
            lambda name: bool(others) or name not in ("accuracy", "r2")
        ),
        "a number of features is none": ~scores["n_features"].map(lambda n: isinstance(n, int) and n >= 1),
        "a score is outside of what its metric can be": ~np.logical_and.reduce(within),
        "a score is not the mean of its folds": (score - scores[folds].mean(axis=1)).abs() > ROUNDING,
        "an interval does not lie around its score": ~(ordered | none),
        "chosen_by_round has not one choice a fold": n_rounds != is_chosen * len(folds),
    }
    return next((fault for fault, rows in wrong.items() if rows.any()), "")


def differences(scores, folds):
    """Each two sources' best choice, fold by fold: a table with the mean difference and its interval."""
    import pandas as pd

    from keras_audio_transfer.intervals import t_half_width

    best = {name: rows.iloc[-1] for name, rows in scores.groupby("source", sort=False)}
    rows = []
    for (a, of_a), (b, of_b) in itertools.combinations(best.items(), 2):
        by_fold = (of_a[folds] - of_b[folds]).to_numpy(float).round(12)  # a difference of nothing has no sign
        half = t_half_width(by_fold)
        mean = by_fold.mean()
        rows.append({"a": a, "b": b, "difference": mean, "interval_low": mean - half, "interval_high": mean + half})
    return pd.DataFrame(rows)


@cli.command(arguments)
def main(options):
    import pandas as pd

    sources = sources_of(options)
    check(options, sources)
    clips = cli.load_clips(options)
    label_names = cli.label_names(clips)
    check_clips(options, clips, label_names)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    cards = {name: path and Card.read(path) for name, path in sources.items()}
    settings = {"sources": {name: card and card.weights_sha256 for name, card in cards.items()}}
    settings |= {"dataset": options.dataset, "clips": len(clips), "seed": options.seed, "join": options.join}
    settings |= {FINGERPRINT: digest(clips), CARDS: {name: card and card.fingerprint() for name, card in cards.items()}}
    defaults = {"combinations": BEST, "layer_weights": CHANNELS}  # as they were before there was a choice
    settings |= {name: getattr(options, name) for name, value in defaults.items() if getattr(options, name) != value}
    check_settings(options.output_dir / CONFIG, settings, added=[FINGERPRINT, CARDS])

    from keras_audio_transfer import extraction, plots

    extraction.use_one_thread_a_clip(options.workers)
    phases = cli.Phases(options, *sources, *(f"probing {name}" for name in [*sources, *[JOINED] * options.join]))
    found = {name: features_of(options, name, path, clips, label_names, phases) for name, path in sources.items()}
    failures = [*{clip: (clip, why) for _, cost in [*found.values()][::-1] for clip, why in cost["failures"]}.values()]
    tables = of_all_sources({name: table for name, (table, _) in found.items()})
    if options.join:
        of_models = {path.resolve().name for path in options.models}
        tables[JOINED] = joined({name: table for name, table in tables.items() if name in of_models})
    path = options.output_dir / SCORES
    done = read_scores(path) if path.exists() else pd.DataFrame({"source": []})
    parts = [done]
    for name, table in tables.items():
        if name in set(done["source"]):
            continue
        rows = pd.DataFrame(rows_of(options, name, table, phases))
        rows.insert(3, "seconds_a_clip", found[name][1]["seconds_a_clip"] if name in found else None)
        parts.append(rows)
        with atomic_write(path) as partial:
            pd.concat([part for part in parts if len(part)]).to_csv(partial, index=False)
        unfinished(options, name).unlink(missing_ok=True)
    scores = read_scores(path)
    between = differences(scores, fold_columns(scores))
    with atomic_write(options.output_dir / DIFFERENCES) as partial:
        between.to_csv(partial, index=False)
    cli.show(scores[SHOWN].to_string(index=False, float_format="{:.3f}".format))
    cli.show(between.to_string(index=False, float_format="{:+.3f}".format))
    with cli.picture():
        plots.sources(scores, options.output_dir / "sources.*", f"Sources on {name_of_clips(options)}")
    write_failures(path, failures)
    return cli.report_failures(failures, path)
