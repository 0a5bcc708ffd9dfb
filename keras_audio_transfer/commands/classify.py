"""Make a classifier of your own sounds: a folder with a sub-folder of audio per class -> a model folder.

    python scripts/classify.py my_sounds --model saved_models/convnet5.urbansound8k --output-dir saved_models/mine

The sounds become features of every layer of the network, and a support vector machine is fitted on those layers, and
with those parameters, that score best in cross-validation. How good such a choice is on new sounds is found out first,
by nested cross-validation, where no clip that is scored has a part in any choice. (With the folders train and test, and
perhaps validation, and class folders in each, test is scored instead.) The machine that is exported is then chosen
once more, on all the clips, and fitted on all of them.

The largest of the model's scores is the class that scikit-learn names; scripts/predict.py shows them. Files that
cannot be read are listed in failed.csv beside the output, the rest is used, and the exit code is 1.
"""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd

from keras_audio_transfer import datasets
from keras_audio_transfer.commands import cli
from keras_audio_transfer.datasets import folder
from keras_audio_transfer.datasets.clip import AUDIO_SUFFIXES
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_table import FeatureTable
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.model_folder import Card, latest_saved_model
from keras_audio_transfer.probing.cross_validation import outer_folds
from keras_audio_transfer.probing.layer_selection import parse_combinations
from keras_audio_transfer.probing.prober import Prober, fit_svm, interval


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER_OF_CLASSES", help="one sub-folder of audio per class")
    parser.add_argument("--model", type=Path, required=True, metavar="MODEL_DIR", help="model folder to build on")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="model folder to write")
    parser.add_argument(
        "--clip-seconds",
        type=float,
        help="clip length; if not given, the model's or that of the longest clip, whichever is shorter",
    )
    parser.add_argument("--workers", type=int, default=2, help="clips worked on at the same time")
    parser.add_argument("--jobs", type=int, default=2, help="combinations of layers worked on at a time")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model folder")
    return parser


def check(options, card):
    """Refuse what cannot end well, before any work is done."""
    for flag, value in (("--workers", options.workers), ("--jobs", options.jobs)):
        if value < 1:
            raise InputError(f"{flag}: {value} is not allowed; expected 1 or more")
    if not options.output_dir.name:
        raise InputError(f"--output-dir: {options.output_dir} is the current folder; name a new one")
    if options.output_dir.exists():
        if not options.overwrite:
            raise InputError(f"{options.output_dir}: exists; pass --overwrite to replace it or another --output-dir")
        Card.read(options.output_dir)  # nothing else is replaced
    card.require_single_clips(options.model, "a served clip does not have")
    latest_saved_model(options.model)


def load_clips(options, config):
    """The clips that can be read, their label names, those that cannot, and the front end for their length."""
    clips = datasets.load("folder", options.folder)
    names = datasets.label_names(clips)
    check_folders(options.folder, clips)
    say_what_is_left_out(options.folder, clips)
    check_enough(options, clips, names)
    clips, failures, _, config = cli.decode_clips(options, str(options.folder), clips, config, options.output_dir)
    try:
        check_enough(options, clips, names)
    except InputError as error:
        raise InputError(f"{error}; {len(failures)} files cannot be read, the first: {failures[0][1]}") from error
    return clips, names, failures, config


def check_folders(root, clips):
    """Every class folder has to hold audio itself, else its sub-folders may be what was meant as classes."""
    depth = 2 if clips[0].split else 1
    holds_audio = {}
    for clip in clips:
        parts = clip.path.relative_to(root).parts
        class_folder = root.joinpath(*parts[:depth])
        holds_audio[class_folder] = holds_audio.get(class_folder, False) or len(parts) == depth + 1
    for class_folder, holds in holds_audio.items():
        if not holds:
            raise InputError(
                f"{class_folder}: has audio only in its sub-folders; expected the audio of one class in it; name the "
                "folder whose sub-folders are the classes, or move the audio up"
            )


def say_what_is_left_out(root, clips):
    """Name what lies there and is no audio that can be read: it could have been meant to be."""
    taken = {clip.path for clip in clips}
    files = sorted(path for path in root.rglob("*") if path.is_file() and path not in taken)
    left_out = [path for path in files if not any(p.startswith(".") for p in path.relative_to(root).parts)]
    if left_out:
        print(
            f"left out: {len(left_out)} files that are not {', '.join(AUDIO_SUFFIXES)}, or lie in no class folder; "
            f"the first: {left_out[0]}",
            file=sys.stderr,
        )


def check_enough(options, clips, names):
    """Every class has to have clips to fit on and to choose by."""
    try:
        folds, _ = outer_folds(FeatureTable.of_clips({}, clips, names), options.seed)
    except InputError as error:
        raise InputError(f"{options.folder}: {error}") from error
    fitted = Counter(clips[i].labels[0] for i in folds[0].outer.fit)
    for name in names:
        if not fitted[name]:
            raise InputError(f"{options.folder}: {name!r} has no clip for training; add some, or leave the class out")


def write(options, source, network, config, prober, row):
    """Choose and fit the machine on all clips, and write the model folder."""
    from keras_audio_transfer import plots, svm_layers
    from keras_audio_transfer.export import saved_model

    features, counts = prober.features, prober.confusion(row)
    method, names = best(features), features.label_names
    progress = cli.progress_bar(options, "choosing", prober.n_steps_to_choose(method), unit="fit")(None)
    prober.step = progress.update
    layers, params = prober.choose(method)
    progress.close()
    scaler, svm = fit_svm(features, layers, params)
    model = svm_layers.add_probe(network, layers, scaler, svm)
    low, high = interval(row, counts)
    part = "test" if (features.splits != "").any() else "cross-validation"
    numbers = {"accuracy": row["score"], "interval_low": low, "interval_high": high, "chance": row["chance"]}
    card = replace(
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
            "support_vectors": len(svm.support_),
        },
        training_data={
            "dataset": "folder",
            "licence": folder.LICENSE,
            "citation": folder.CITATION,
            "division": f"{prober.description}; then chosen once more and fitted on all clips",
            "clips": {"all": len(features.labels)},
            "clips_by_label": {name: int((features.labels == i).sum()) for i, name in enumerate(names)},
        },
        transferred_from=source.lineage(),
        scores={part: {name: float(value) for name, value in numbers.items()}},
        settings={"model": options.model.resolve().name, "clip_seconds": options.clip_seconds},
        seed=options.seed,
    )
    with atomic_write(options.output_dir) as partial:
        partial.mkdir()
        difference = saved_model.write_model(partial, model, card)
        for suffix in ("png", "svg"):
            plots.confusion(counts, names, partial / f"confusion.{suffix}", f"{options.output_dir.name}, {part}")
    print(f"{part}: accuracy {row['score']:.3f} (95 % interval {low:.3f} to {high:.3f}, chance {row['chance']:.3f})")
    print(f"  {prober.description}")
    print(f"  {row['chosen_by_round']}")
    print("true class (row) and predicted class (column):")
    print(pd.DataFrame(counts, index=names, columns=names).to_string())
    print(f"chosen and fitted on all {len(features.labels)} clips: {'+'.join(layers)}, {params}")
    print(f"reloaded in a fresh process: largest difference {difference:.1e}")
    print(f"written: {options.output_dir}")


def best(features):
    return parse_combinations("best", [*features.layers])


@cli.command(arguments)
def main(options):
    card = Card.read(options.model)
    check(options, card)
    clips, names, failures, config = load_clips(options, card.audio)

    from keras_audio_transfer.extraction import SavedExtractor, extract, use_one_thread_a_clip
    from keras_audio_transfer.finetuning import load_network

    use_one_thread_a_clip(options.workers)
    network = load_network(options.model)  # before any work is done with it
    extractor = SavedExtractor(latest_saved_model(options.model))
    progress = cli.progress_bar(options, "extracting", len(clips))
    features, _ = extract(extractor, card.layer_names, clips, names, config, options.workers, progress=progress)
    prober = Prober(features, seed=options.seed, n_jobs=options.jobs)
    cli.say(options, f"{options.folder}: {prober.description}")
    progress = cli.progress_bar(options, "estimating", prober.n_steps(best(features)), unit="fit")(None)
    prober.step = progress.update
    (row,) = prober.rows(best(features))
    progress.close()
    write(options, card, network, config, prober, row)
    return cli.report_failures(failures, options.output_dir)
