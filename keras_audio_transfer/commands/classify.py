"""Make a classifier of your own sounds: a folder with a sub-folder of audio a class -> a model folder.

    keras-audio-transfer classify my_sounds --output-dir saved_models/mine
    keras-audio-transfer classify my_sounds --labelled to_label.csv --output-dir saved_models/mine2

The sounds become features of every layer of the network, and a support vector machine (SVM) is fitted on those layers,
and with those parameters, that score best in cross-validation. How good such a choice is on new sounds is found out
first, by nested cross-validation, where no clip that is scored has a part in any choice. (With the folders train and
test, and perhaps validation, and class folders in each, test is scored instead.) The SVM that is exported is then
chosen once more, on all the clips, and fitted on all of them.

The label with the largest of the model's scores is the one that scikit-learn predicts; `predict` shows them. Files that
cannot be read are listed in failed.csv beside the output, the rest is used, and the exit code is 1.
"""

from dataclasses import replace
from pathlib import Path

from keras_audio_transfer.commands import cli, own_sounds, places
from keras_audio_transfer.datasets import folder
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.model_folder import Card, keras_file, latest_saved_model
from keras_audio_transfer.pretrained import imported


def arguments():
    parser = cli.parser(__doc__)
    text = "one sub-folder of audio a class; or a manifest, a CSV file with the columns path and label"
    parser.add_argument("folder", type=Path, metavar="FOLDER_OF_CLASSES", help=text)
    parser.add_argument(
        "--model",
        type=places.model_folder,
        action="append",
        metavar="MODEL_DIR",
        help="model folder to build on; of several, each with its own --model, the one that does best inside the "
        "training parts is chosen (default: yamnet if it was imported, else the model that comes with the package)",
    )
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="model folder to write")
    parser.add_argument(
        "--clip-seconds",
        type=cli.seconds,
        metavar="S",
        help="crop or pad clips to this (default: whole clips, those shorter than the model's length, or than the "
        "longest clip where that is shorter, padded to it)",
    )
    text = "table of 'suggest' with its column correct_label filled in: clips that are added, or get that label"
    parser.add_argument("--labelled", type=Path, metavar="CSV", help=text)
    parser.add_argument(
        "--unknown",
        type=Path,
        metavar="FILE_OR_FOLDER",
        help="sounds of none of the classes: how many of them get a label is said, and they count as wrong for --precision",
    )
    parser.add_argument(
        "--precision",
        type=cli.share,
        metavar="P",
        help="label only what is probable enough for this share of the labels to be right, else answer (none of these)",
    )
    parser.add_argument(
        "--coverage", type=cli.share, metavar="P", help="or label only this share of the classes' sounds, the surest"
    )
    cli.add_group_argument(parser)
    cli.add_layer_weights_argument(parser)
    cli.add_duplicates_argument(parser)
    cli.add_workers_argument(parser)
    cli.add_jobs_argument(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model folder")
    return parser


def check(options):
    """Name -> (folder, card) of the models to build on; what cannot end well is refused, before any work is done."""
    cli.check_model_folder(options)
    if options.output_dir.exists():
        Card.read(options.output_dir)  # nothing else is replaced
    if options.precision is not None and options.coverage is not None:
        raise InputError("--precision: a threshold has either this or a --coverage; leave one out")
    if options.unknown is not None:
        places.check_audio([options.unknown])
    sources = {}
    for name, path in places.by_name("--model", options.model or [imported.best()]).items():
        card = Card.read(path)
        card.require_single_clips(path, "a served clip does not have")
        latest_saved_model(path)
        keras_file(path)
        sources[name] = (path, card)
    return sources


def say_default(options, name):
    """Which model is taken where none is named."""
    how = f"keras-audio-transfer import {imported.BEST} --download"
    better = f"; environmental sounds and music do better on {imported.BEST}: {how}"
    cli.say(options, f"builds on {name}{'' if name == imported.BEST else better}")


def extract(options, sources, clips, names, configs, phases):
    """The features of every model's layers in one table, named MODEL/LAYER where there are several models."""
    from keras_audio_transfer import extraction
    from keras_audio_transfer.finetuning import load_network

    extraction.use_one_thread_a_clip(options.workers)
    result = None
    for name, (path, card) in sources.items():
        load_network(path)  # before any work is done with it
        extractor = extraction.SavedExtractor(latest_saved_model(path))
        progress = phases.bar(title(name, sources), len(clips))
        how = card.layer_names, clips, names, configs[name], options.workers
        table, _ = extraction.extract(extractor, *how, progress=progress)
        if len(sources) > 1:
            table = table.with_layer_names({layer: f"{name}/{layer}" for layer in table.layers})
        result = table if result is None else result.join(table, name)
    return result


def title(name, sources):
    """Of the phase in which a model's features are extracted."""
    return f"extracting {name}" if len(sources) > 1 else "extracting"


def floors(options, clips, names, phases):
    """What plain features alone would have given, by the same nested estimate: name -> accuracy."""
    from keras_audio_transfer.mfcc import FLOORS
    from keras_audio_transfer.probing.prober import Prober

    scores = {}
    for name, extract_floor in FLOORS.items():
        table, _ = extract_floor(clips, names, options.workers, phases.bar(f"floor {name}", len(clips)))
        (row,) = Prober(table, seed=options.seed, n_jobs=options.jobs).rows([(name,)])
        scores[name] = float(row["score"])
    return scores


def show_floors(accuracy, scores):
    said = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    cli.show(f"plain features alone, on the same folds: {said}")
    if accuracy < max(scores.values()):
        best = max(scores, key=scores.get)
        cli.show(f"below a floor: {best} alone does better; try another --model, such as one that 'import' knows")


def estimate(prober, method, phases):
    """The row of the prober's table, what was predicted for each clip, and the scores for the card."""
    from keras_audio_transfer.probing import calibration
    from keras_audio_transfer.probing.predictions import confusion
    from keras_audio_transfer.probing.prober import interval

    progress = phases.bar("estimating", prober.n_steps(method), "fit")()
    prober.step = progress.update
    (row,) = prober.rows(method)
    progress.close()
    held_out = prober.held_out(row, probabilities=True)
    low, high = interval(row, confusion(prober.features, held_out))
    scores = {"accuracy": row["score"], "interval_low": low, "interval_high": high, "chance": row["chance"]}
    scores["calibration_error"] = calibration.expected_calibration_error(reliability(prober, held_out))
    return row, held_out, {name: float(value) for name, value in scores.items()}


def reliability(prober, held_out):
    """How often labels were right that were given with a probability."""
    from keras_audio_transfer.probing import calibration

    return calibration.reliability(held_out.confidence, held_out.predicted == prober.features.labels[held_out.rows])


def show_estimate(prober, part, row, held_out, scores):
    import pandas as pd

    from keras_audio_transfer.probing import predictions

    counts = predictions.confusion(prober.features, held_out)
    names, low, high = prober.features.label_names, scores["interval_low"], scores["interval_high"]
    interval = f"95 % interval {low:.3f} to {high:.3f}, chance {scores['chance']:.3f}"
    cli.show(f"{part}: accuracy {scores['accuracy']:.3f} ({interval})")
    cli.show(f"  {prober.description}")
    cli.show(f"  layers chosen, fold by fold: {row['chosen_by_round']}")
    cli.show("true class (row) and predicted class (column):")
    cli.show(pd.DataFrame(counts, index=names, columns=names).to_string())
    cli.show("class by class, with 95 % intervals over the clips:")
    cli.show(in_words(predictions.by_class(counts, names)).to_string(index=False))
    if top := predictions.top_confusions(counts, names):
        cli.show("taken for another: " + ", ".join(f"{true} for {said} ({n})" for true, said, n in top))
    cli.show(f"probabilities: {scores['calibration_error']:.3f} from the share of right labels (calibration error)")


def in_words(by_class):
    """The table of classes with each measure and its interval in one column."""
    words = by_class[["label", "clips"]].copy()
    for name in ("precision", "recall", "f1"):
        ends = zip(*(by_class[f"{name}{end}"] for end in ("", "_low", "_high")), strict=True)
        words[name] = [f"{value:.3f} ({low:.3f} to {high:.3f})" if value == value else "-" for value, low, high in ends]
    return words


def fit(prober, method, phases):
    """Choose and fit the SVM on all clips: the model, its layers, the parameters, what is fitted, how sure it is."""
    from keras_audio_transfer.probing.prober import fit_svm

    progress = phases.bar("choosing", prober.n_steps_to_choose(method), "fit")()
    prober.step = progress.update
    layers, params = prober.choose(method)
    progress.close()
    scaler, svm = fit_svm(prober.features, layers, params)
    cli.show(f"chosen and fitted on all {len(prober.features.labels)} clips: {'+'.join(layers)}, {params}")
    certainty = prober.certainty(layers, params)
    return layers[0].rpartition("/")[0], [layer.rpartition("/")[2] for layer in layers], params, scaler, svm, certainty


def card_of(options, name, candidates, source, config, prober, fitted, scores):
    from keras_audio_transfer import svm_layers

    features, (_, layers, params, scaler, svm, certainty) = prober.features, fitted
    names = features.label_names
    return replace(
        source.of_network(),
        audio=config,
        labels=names,
        scores_are=svm_layers.SCORES_ARE,
        probe={
            "layers": [*layers],
            "channels": int(scaler.n_features_in_),
            "kernel": params.kernel,
            "C": params.C,
            "gamma": None if params.gamma is None else svm.gamma,
            "layer_weights": params.layer_weights,
            "support_vectors": len(svm.support_),
            "calibration": certainty.calibration._asdict(),
        },
        training_data={
            "dataset": "manifest" if options.folder.is_file() else "folder",
            "licence": folder.LICENSE,
            "citation": folder.CITATION,
            "division": f"{prober.description}; then chosen once more and fitted on all clips",
            "clips": {"all": len(features.labels)},
            "clips_by_label": {name: int((features.labels == i).sum()) for i, name in enumerate(names)},
        },
        transferred_from=source.lineage(),
        scores=scores,
        settings={
            "model": name,
            "candidates": [*candidates],
            "clip_seconds": options.clip_seconds,
            "layer_weights": options.layer_weights,
            "group_by": options.group_by,
            "labelled": options.labelled and options.labelled.name,
        },
        seed=options.seed,
    )


def curve_of(prober, row, phases):
    """Whether more clips would help."""
    from keras_audio_transfer.probing.learning_curve import learning_curve

    curve = learning_curve(prober, row, phases.bar("learning curve", len(prober.outer_folds), "fold"))
    cli.show(curve.sentence)
    return curve


def write(options, path, card, fitted, prober, row, held_out, curve, clips, failures):
    """Write the model folder, with what was predicted for each clip before the SVM was fitted on all of them."""
    from keras_audio_transfer import picture_labels, plots, svm_layers
    from keras_audio_transfer.export import saved_model
    from keras_audio_transfer.finetuning import load_network
    from keras_audio_transfer.probing import predictions
    from keras_audio_transfer.report import page

    _, layers, _, *fitted_svm = fitted
    network = load_network(path)
    model = svm_layers.add_probe(network, layers, *fitted_svm)
    (part,) = card.scores
    title, features, certain = options.output_dir.name, prober.features, reliability(prober, held_out)
    with atomic_write(options.output_dir) as partial:
        partial.mkdir()
        difference = saved_model.write_model(partial, model, card)
        counts = predictions.write(partial, features, held_out)
        with atomic_write(partial / "calibration.csv") as table:
            certain.to_csv(table, index=False)
        with cli.picture():
            about = picture_labels.of_row(row)
            plots.confusion(counts, card.labels, partial / "confusion.*", f"{title}, {part}", about)
            plots.reliability(certain, partial / "calibration.*", f"{title}, {part}")
            plots.more_clips(curve, partial / "more_clips.*", title)
            content = page.Report(
                title,
                Card.read(partial),
                predictions.table(features, held_out),
                clips,
                row["chosen_by_round"],
                learning_curve=curve.sizes,
                more_clips=curve.sentence,
                calibration=certain,
                calibration_error=card.scores[part]["calibration_error"],
                failures=failures,
            )
            page.write(partial / "report.html", content, workers=options.workers)
    cli.show(f"reloaded in a fresh process: largest difference {difference:.1e}")
    cli.show(f"written: {options.output_dir}")
    cli.say_licences(options, card)


@cli.command(arguments)
def main(options):
    sources = check(options)
    if not options.model:
        say_default(options, *sources)
    titles = [title(name, sources) for name in sources]
    phases = cli.Phases(
        options,
        "decoding",
        *titles,
        "estimating",
        "floor mfcc",
        "floor log_mel",
        "learning curve",
        "choosing",
        "exporting",
    )
    first, *others = sources
    clips, names, failures, config = own_sounds.load_clips(options, sources[first][1].audio, phases)
    configs = {first: config}
    for name in others:
        configs[name] = sources[name][1].audio.with_clip_seconds(options.clip_seconds)
    features = extract(options, sources, clips, names, configs, phases)

    from keras_audio_transfer.probing.layer_selection import within_sources
    from keras_audio_transfer.probing.prober import Prober

    prober = Prober(features, seed=options.seed, n_jobs=options.jobs, layer_weights=options.layer_weights)
    cli.say(options, f"{options.folder}: {prober.description}")
    row, held_out, scores = estimate(prober, within_sources, phases)
    part = "test" if (features.splits != "").any() else "cross-validation"
    show_estimate(prober, part, row, held_out, scores)
    plain = floors(options, clips, names, phases)
    show_floors(scores["accuracy"], plain)
    curve = curve_of(prober, row, phases)
    fitted = fit(prober, within_sources, phases)
    phases.begin("exporting")
    name = fitted[0] or first
    path, source = sources[name]
    card = card_of(options, name, sources, source, configs[name], prober, fitted, {part: scores | plain})
    write(options, path, card, fitted, prober, row, held_out, curve, clips, failures)
    return cli.report_failures(failures, options.output_dir)
