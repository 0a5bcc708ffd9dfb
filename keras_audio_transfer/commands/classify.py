"""Make a classifier of your own sounds: a folder with a sub-folder of audio a class -> a model folder.

    keras-audio-transfer classify my_sounds --output-dir saved_models/mine
    keras-audio-transfer classify my_sounds --labelled to_label.csv --output-dir saved_models/mine2

The sounds become features of every layer of the network, and a support vector machine (SVM) is fitted on those layers,
and with those parameters, that score best in cross-validation. How good such a choice is on new sounds is found out
first, by nested cross-validation, where no clip that is scored has a part in any choice. (With the folders train and
test, and perhaps validation, and class folders in each, test is scored instead.) The SVM that is exported is then
chosen once more, on all the clips, and fitted on all of them. A folder called _background or _background_noise_ among
the classes is none: its sounds are taken as those of --unknown.

Where rows of a manifest have several labels (rain|wind), the model says of each label by itself whether a sound has it.

The label with the largest of the model's scores is the one that scikit-learn predicts; `predict` shows them. Files that
cannot be read are listed in failed.csv beside the output, the rest is used, and the exit code is 1.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from keras_audio_transfer.answers import KNOWN_AT_LEAST, limits_of
from keras_audio_transfer.commands import classify_tags, cli, estimates, own_sounds, places
from keras_audio_transfer.commands.progress import Estimate
from keras_audio_transfer.errors import InputError
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
        help="sounds of none of the classes: how many of them get a label is said; for --precision that is wrong",
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
    parser.add_argument(
        "--keep-examples",
        type=cli.positive_int,
        metavar="N",
        help="keep the names, labels and features of N clips in the model folder, so that 'demo' shows which of them "
        "are most like a sound (default: none; whoever has the folder has them)",
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


def front_ends(options, sources, own):
    """Of each model for the length of the own sounds, whichever is the first, for which `own_sounds.load` has it."""
    longest = max(clip.recorded.seconds for clip in own.clips)
    configs = {name: card.audio.with_clip_seconds(options.clip_seconds) for name, (_, card) in sources.items()}
    if options.clip_seconds is None:
        configs = {name: config.for_clips(longest) for name, config in configs.items()}
    return configs | {next(iter(sources)): own.config}


def extract(options, sources, clips, names, configs, phases):
    """The features of every model's layers in one table, named MODEL/LAYER where there are several models."""
    from keras_audio_transfer import extraction
    from keras_audio_transfer.finetuning import load_network

    extraction.use_one_thread_a_clip(options.workers)
    result = None
    for name, (path, card) in sources.items():
        load_network(path)  # before any work is done with it
        extractor = extraction.SavedExtractor(latest_saved_model(path))
        progress = phases.bar(title(name, sources) if names else "unknown sounds", len(clips))
        how = card.layer_names, clips, names, configs[name], options.workers
        table, _ = extraction.extract(extractor, *how, progress=progress)
        if len(sources) > 1:
            table = table.with_layer_names({layer: f"{name}/{layer}" for layer in table.layers})
        result = table if result is None else result.join(table, name)
    return result


def title(name, sources):
    """Of the phase in which a model's features are extracted."""
    return f"extracting {name}" if len(sources) > 1 else "extracting"


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


def card_of(options, own, name, candidates, source, config, found, fitted, limits, scores):
    from keras_audio_transfer import svm_layers

    features, (_, layers, params, scaler, svm, certainty) = found.prober.features, fitted
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
            "accepts": limits,
        },
        training_data=own_sounds.training_data(
            options, own.clips, found.prober.description, np.eye(len(names), dtype=int)[features.labels], names
        ),
        transferred_from=source.lineage(),
        scores=scores,
        settings=own_sounds.settings(options, name, candidates, int(found.decided.is_foreign.sum())),
        seed=options.seed,
    )


def write(options, path, card, fitted, found, own):
    """Write the model folder, with what was predicted for each clip before the SVM was fitted on all of them."""
    from keras_audio_transfer import health, svm_layers
    from keras_audio_transfer.export import saved_model
    from keras_audio_transfer.finetuning import load_network
    from keras_audio_transfer.probing import predictions, rejection

    source, layers, _, *fitted_svm = fitted
    model = svm_layers.add_probe(load_network(path), layers, *fitted_svm)
    with atomic_write(options.output_dir) as partial:
        partial.mkdir()
        difference = saved_model.write_model(partial, model, card)
        counts = predictions.write(partial, found.prober.features, found.held_out)
        health_table = health.table(own.clips, card.labels)
        health.write(partial, health_table)
        names = [f"{source}/{layer}".lstrip("/") for layer in layers]
        estimates.keep_examples(options, partial, found.prober.features, names)
        certain = estimates.reliability(found.prober, found.held_out)
        certain.to_csv(partial / "calibration.csv", index=False)
        kept = rejection.table(found.decided, KNOWN_AT_LEAST)
        kept.to_csv(partial / "kept.csv", index=False)
        with cli.picture():
            draw(options, partial, card, found, counts, certain, kept)
        with cli.picture():
            picture = partial / "kept.png"
            estimates.write_report(
                options,
                partial,
                own,
                predictions.table(found.prober.features, found.held_out),
                found.curve,
                chosen=found.row["chosen_by_round"],
                calibration=certain,
                kept=kept,
                kept_picture=picture if picture.is_file() else None,
                named_right=found.decided.at(**limits_of(card))["right"],
                n_unknown=int(found.decided.is_foreign.sum()),
                health=health_table,
            )
    cli.show(f"reloaded in a fresh process: largest difference {difference:.1e}")
    cli.show(f"written: {options.output_dir}")
    cli.say_licences(options, card)


def draw(options, folder, card, found, counts, certain, kept):
    """The pictures."""
    from keras_audio_transfer import picture_labels, plots

    (part,), name = card.scores, options.output_dir.name
    plots.confusion(counts, card.labels, folder / "confusion.*", f"{name}, {part}", picture_labels.of_row(found.row))
    plots.reliability(certain, folder / "calibration.*", f"{name}, {part}")
    plots.kept(kept, folder / "kept.*", f"{name}, {part}")
    plots.more_clips(found.curve, folder / "more_clips.*", name)


PHASES = ("estimating", "floor mfcc", "floor log_mel", "learning curve", "choosing", "exporting")


@cli.command(arguments)
def main(options):
    sources = check(options)
    if not options.model:
        say_default(options, *sources)
    titles = [title(name, sources) for name in sources]
    clips, foreign_clips, several = own_sounds.found(options)
    unknown = ["decoding unknown sounds"] + ["unknown sounds"] * len(titles) if foreign_clips else []
    of_kind = classify_tags.PHASES if several else PHASES
    phases = cli.Phases(options, "decoding", *unknown[:1], *titles, *unknown[1:], *of_kind)
    first = next(iter(sources))
    own = own_sounds.load(options, clips, sources[first][1].audio, phases)
    if foreign_clips:
        how = own, sources[first][1].audio, phases
        foreign_clips, unread = own_sounds.readable_foreign(options, foreign_clips, *how)
        own = own._replace(failures=own.failures + unread)
    configs = front_ends(options, sources, own)
    features = extract(options, sources, own.clips, own.names, configs, phases)
    if several:
        return classify_tags.classify(options, sources, configs, features, own, phases)
    foreign = extract(options, sources, foreign_clips, [], configs, phases) if foreign_clips else None

    from keras_audio_transfer.probing.layer_selection import within_sources
    from keras_audio_transfer.probing.prober import Prober

    prober = Prober(features, seed=options.seed, n_jobs=options.jobs, layer_weights=options.layer_weights)
    cli.say(options, f"{options.folder}: {prober.description}")
    duration = Estimate(options, "estimating to choosing")
    row, held_out, scores = estimates.estimate(prober, within_sources, phases, duration)
    part = "test" if (features.splits != "").any() else "cross-validation"
    estimates.show_estimate(prober, part, row, held_out, scores)
    if own.groups_without_names is not None:
        estimates.show_without_groups(prober, own.groups_without_names)
    plain = estimates.floors(options, own.clips, own.names, phases)
    estimates.show_floors(scores["accuracy"], plain)
    decided = estimates.decided(prober, row, held_out, foreign)
    limits = estimates.accepts(options, decided)
    curve = estimates.curve_of(prober, row, phases)
    fitted = fit(prober, within_sources, phases)
    duration.compare()
    phases.begin("exporting")
    name = fitted[0] or first
    path, source = sources[name]
    found = estimates.Estimate(prober, row, held_out, decided, curve)
    card = card_of(options, own, name, sources, source, configs[name], found, fitted, limits, {part: scores | plain})
    write(options, path, card, fitted, found, own)
    return cli.report_failures(own.failures, options.output_dir)
