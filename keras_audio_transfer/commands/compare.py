"""Which source? Probe several networks on the same clips, layer by layer and joined, beside the floors.

    keras-audio-transfer compare --models saved_models/yamnet saved_models/musicnn default --mfcc --log-mel \\
        --dataset esc10 --data-dir data/ESC-50 --output-dir comparisons/esc10

Of each source: its last layer, the best single layer, all layers joined, and the best combination (--combinations says
which are tried). With --join also of the layers of all sources, named SOURCE/LAYER. Whatever is chosen
is chosen inside each training part (nested), so that no score has a part in a choice; folds are the data set's own.
differences.csv has what lies between two sources, fold by fold, with its 95 % interval. A source may be a file of the
same clips' features (--features), too, which is called by its name. A run that was killed continues when it is started
again; named with more sources, it adds those to what is there (but not with --join, whose choice is among all).
"""

import argparse
import itertools
import math
from pathlib import Path

import numpy as np

from keras_audio_transfer.commands import cli, places, probe, source_features
from keras_audio_transfer.commands.comparison_settings import BEST, CONFIG, WAYS, settings_of, sources_before
from keras_audio_transfer.commands.source_features import FEATURES, place_of
from keras_audio_transfer.errors import InputError, is_unknown
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.files import (
    atomic_write,
    beside,
    cell,
    failures_beside,
    number_in,
    write_failures,
    write_json,
)
from keras_audio_transfer.model_folder import Card, latest_saved_model
from keras_audio_transfer.probing.layer_selection import EXHAUSTIVE_LAYERS, METHODS, single, thorough
from keras_audio_transfer.resume import Journal

JOINED = "joined"
LAST, SINGLE, ALL, CHOSEN = CHOICES = ("last layer", "best single layer", "all layers", "chosen")
SCORES, DIFFERENCES = "scores.csv", "differences.csv"
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
    parser.add_argument(
        "--features",
        type=Path,
        nargs="*",
        default=[],
        metavar="FILE",
        help="beside them features of the same clips that are there, as `extract` writes them (.npz, .parquet)",
    )
    parser.add_argument("--mfcc", action="store_true", help="beside them the MFCC baseline")
    parser.add_argument("--log-mel", action="store_true", help="beside them statistics of a log-mel spectrogram")
    parser.add_argument(
        "--random",
        nargs="*",
        metavar="SOURCE",
        help="beside each model the same network with random weights; or only beside these, named as at --models or by "
        "their folders' names",
    )
    parser.add_argument(
        "--join", action="store_true", help="beside them the layers of all models and files in one choice"
    )
    parser.add_argument(
        "--combinations",
        metavar="NAME",
        choices=WAYS,
        default=BEST,
        help="how the best combination is found, one of %(choices)s. best: of all for up to "
        f"{EXHAUSTIVE_LAYERS} layers, then greedy; blocks: of each layer, each two neighbours, each quarter of the "
        "depth, and all; forward: adding a layer at a time; greedy: forward until two steps in a row have not helped; "
        "backward: leaving out a layer at a time",
    )
    cli.add_layer_weights_argument(parser)
    cli.add_dataset_arguments(parser)
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="for the tables and the picture")
    cli.add_workers_argument(parser)
    cli.add_jobs_argument(parser)
    cli.add_scheduler_argument(parser, "compute the features and fit the SVMs")
    return parser


def sources_of(options):
    """Name -> model folder, None for a floor; and name -> features file."""
    from keras_audio_transfer.mfcc import FLOORS
    from keras_audio_transfer.study.study_file import TWIN

    models, files = places.by_name("--models", options.models), places.by_name("--features", options.features)
    for flag, names, others in (("--models", models, ()), ("--features", files, models)):
        for name in names:
            if name in (*FLOORS, JOINED, *others) or name.endswith(TWIN):
                raise InputError(f"{flag}: {name!r} is the name of another source; rename it")
            if cell(name) != name:
                raise InputError(f"{flag}: {name!r} would be a formula in a spreadsheet; rename it")
    floors = {name: None for name, wanted in zip(FLOORS, (options.mfcc, options.log_mel), strict=True) if wanted}
    if options.random is not None:
        models |= {f"{name}{TWIN}": models[name] for name in twinned(models, options.random)}
    if len(models) + len(files) + len(floors) < 2:
        rest = "--mfcc, --log-mel, --random or --features"
        raise InputError(f"--models: nothing to compare; name two or more, or one beside {rest}")
    if options.join and len(options.models) + len(files) < 2:
        raise InputError("--join: joins the layers of two or more models or files; name them with --models, --features")
    return models | floors, files


def twinned(models, names):
    """The models that are compared with random weights, too: those named; where none is, all.

    Each is named by its folder's name, or as it can be at `--models`.
    """
    wanted = []
    for text in names:
        name = text if text in models else name_of(models, text)
        if name is None:
            remedy = is_unknown(text, models) if models else f"{text!r} is not there; name its folder with --models"
            raise InputError(f"--random: {remedy}")
        if name in wanted:
            raise InputError(f"--random: {text} is given twice; leave one out")
        wanted.append(name)
    return [name for name in models if name in wanted or not names]


def name_of(models, text):
    """The name of the model that is meant as at `--models`; None where it is none of these."""
    try:
        folder = places.model_folder(text).resolve()
    except (argparse.ArgumentTypeError, OSError):  # no model folder's name, or no name that a file can have
        return None
    return next((name for name, path in models.items() if path.resolve() == folder), None)


def check(options, sources, files):
    """Refuse what cannot end well, before any work is done."""
    cli.require_dataset(options)
    inputs = [options.data_dir, *files.values()]
    places.check_folder("--output-dir", options.output_dir, inputs)
    for name in RESULTS:
        places.check_no_input("--output-dir", options.output_dir / name, inputs)
    kept = [options.output_dir / SCORES, options.output_dir / FEATURES]
    kept += [unfinished(options, name) for name in [*sources, *files, JOINED]]
    places.check_state("--output-dir", kept, options.output_dir / CONFIG, inputs)
    failures_beside(options.output_dir / SCORES)
    places.lock(options.output_dir)
    for path in filter(None, sources.values()):
        Card.read(path).require_single_clips(path, "a comparison does not have")
        latest_saved_model(path)


def check_clips(options, clips, label_names):
    """Refuse clips that cannot be scored, while nothing has been computed."""
    from keras_audio_transfer.probing.cross_validation import outer_folds

    with cli.naming_dataset(options):
        outer_folds(FeatureTable.of_clips({}, clips, label_names), options.seed)


# ---- scores


def unfinished(options, name):
    """The journal of a source whose scores are not yet in the table."""
    return beside(options.output_dir / f"unfinished.{name}", ".jsonl")


def wanted_of(options, name, layers):
    """Choice -> the combinations of a source's layers that it is made among, in the order of the rows."""
    if len(layers) == 1:
        return {ALL: [layers]}
    chosen_by = thorough(layers) if options.combinations == BEST else METHODS[options.combinations]
    last = {} if name == JOINED else {LAST: [layers[-1:]]}
    return {**last, SINGLE: single, ALL: [layers], CHOSEN: chosen_by}


def rows_of(options, name, table, phases, cluster, on_worker):
    """A row a choice; of a source with one layer, one. `on_worker`: for `probe.scores_on`, where there is a cluster."""
    from keras_audio_transfer.probing.prober import Prober

    wanted = wanted_of(options, name, tuple(table.layers))
    prober = Prober(table, seed=options.seed, n_jobs=options.jobs, layer_weights=options.layer_weights)
    prober.elsewhere = cluster and probe.scores_on(cluster, prober, *on_worker)
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


def check_same_clips(before, found):
    """Refuse added sources without features of clips that the others were scored on."""
    scored_on = next(iter(source_features.of_all_sources({name: found[name][0] for name in before}).values())).clip_ids
    for name, (table, cost) in found.items():
        n_there = int(np.isin(scored_on, table.clip_ids).sum())
        if n_there < len(scored_on):
            what = f"only {n_there} of the {len(scored_on)} clips on which the other sources were scored have features"
            why = cost["failures"][0][1]
            raise InputError(f"--output-dir: {what} of {name} ({why}); compare all in another folder")


def check_whole(options, done, tables):
    """Refuse the scores of an unknown source, or of one without some of its choices."""
    for name, rows in done.items():
        wanted = wanted_of(options, name, tuple(tables[name].layers)) if name in tables else {}
        if [*rows["choice"]] != [*wanted]:
            what = f"it has {len(rows)} rows of {name}; expected {', '.join(wanted) or 'none'}"
            raise InputError(f"{options.output_dir / SCORES}: is not a table that compare writes ({what}); remove it")


@cli.command(arguments)
def main(options):
    import pandas as pd

    sources, files = sources_of(options)
    check(options, sources, files)
    clips = cli.load_clips(options)
    label_names = cli.label_names(clips)
    check_clips(options, clips, label_names)
    found = {name: source_features.read(path, clips, label_names) for name, path in files.items()}
    cluster = cli.cluster_of(options)
    options.output_dir.mkdir(parents=True, exist_ok=True)
    settings = settings_of(options, sources, files, clips)
    before = sources_before(options, settings, files)

    if any(sources.values()):
        from keras_audio_transfer import extraction

        extraction.use_one_thread_a_clip(options.workers)
    of_probes = (f"probing {name}" for name in [*sources, *files, *[JOINED] * options.join])
    phases = cli.Phases(options, *sources, *of_probes)
    how = clips, label_names, cluster, phases
    found = {name: source_features.computed(options, name, path, *how) for name, path in sources.items()} | found
    failures = [*{clip: (clip, why) for _, cost in [*found.values()][::-1] for clip, why in cost["failures"]}.values()]
    path, is_grown = options.output_dir / SCORES, len(before) < len(found)
    if is_grown and path.exists():
        check_same_clips(before, found)
    write_failures(path, failures)
    tables = source_features.of_all_sources({name: table for name, (table, _) in found.items()})
    if is_grown:
        write_json(options.output_dir / CONFIG, settings)
    members = {name: (name,) for name in tables}
    if options.join:
        members[JOINED] = (*(path.resolve().name for path in options.models), *files)
        tables[JOINED] = source_features.joined({name: tables[name] for name in members[JOINED]})
    left_out = tuple({clip.clip_id for clip in clips} - {*map(str, tables[next(iter(found))].clip_ids)})
    done = read_scores(path) if path.exists() else pd.DataFrame({"source": []})
    parts = dict(iter(done.groupby("source")))
    check_whole(options, parts, tables)
    for name, table in tables.items():
        if name in parts:
            continue
        paths = [files.get(source) or place_of(options, source) for source in members[name]]
        on_worker = source_features.table_on_worker, paths, members[name], left_out
        rows = pd.DataFrame(rows_of(options, name, table, phases, cluster, on_worker))
        rows.insert(3, "seconds_a_clip", found[name][1]["seconds_a_clip"] if name in found else None)
        parts[name] = rows
        with atomic_write(path) as partial:
            pd.concat([parts[name] for name in tables if name in parts]).to_csv(partial, index=False)
        unfinished(options, name).unlink(missing_ok=True)
    scores = read_scores(path)
    between = differences(scores, fold_columns(scores))
    with atomic_write(options.output_dir / DIFFERENCES) as partial:
        between.to_csv(partial, index=False)
    cli.show(scores[SHOWN].to_string(index=False, float_format="{:.3f}".format))
    cli.show(between.to_string(index=False, float_format="{:+.3f}".format))
    with cli.picture():
        from keras_audio_transfer import plots

        plots.sources(scores, options.output_dir / "sources.*", f"Sources on {cli.name_of_clips(options)}")
    return cli.report_failures(failures, path)
