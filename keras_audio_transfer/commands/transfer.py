"""Transfer a trained network to another data set, and compare that with doing without.

    keras-audio-transfer transfer saved_models/densenet40.urbansound8k --dataset fsdd --data-dir data/FSDD \\
        --output-dir transfers/fsdd --strategy finetune scratch --fractions 0.1 1.0 --seeds 3

finetune  new head, all trained on; or from a layer on (--finetune-from), or layer by layer (--unfreeze-epochs)
scratch   the same network with fresh weights
head      new head on the frozen network
probe     support vector machine (SVM) on the frozen network's layers (--layers)
random    new head on a frozen network with random weights

What is frozen keeps its weights, and its batch normalisation the stored statistics; what is trained normalises each
batch by its own. The random network's statistics, but no weights, are taken from up to 512 training clips. Fresh
weights that no batch normalisation follows are scaled to give a variance of one there (Mishkin and Matas 2016):
without that, deep networks whose published weights hold their normalisation, such as the speech embedding, learn
nothing from scratch.

results.csv gets a row a training, at once: a killed run continues with the same command, and the same command with
more strategies, fractions or seeds adds to it. transfer.png shows accuracy against the fraction of the training clips.
"""

import argparse
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, fields
from pathlib import Path

from keras_audio_transfer import own_processes
from keras_audio_transfer.commands import cli, places
from keras_audio_transfer.datasets import DATASETS, target_names
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.finetuning_config import STRATEGIES, FinetuningConfig, Trial, fraction_name
from keras_audio_transfer.model_folder import Card, keras_file
from keras_audio_transfer.resume import check_settings
from keras_audio_transfer.splits import FINGERPRINT, divide, nested_subset

RESULTS, SETTINGS, MODELS, UNFINISHED = "results.csv", "settings.json", "models", "unfinished"
PREDICTIONS = "predictions"  # a table a training
CARD = "card_sha256"  # the setting that holds what the source's answers depend on
RENAMED = {"share_below_head": "backbone_learning_rate_factor"}  # settings that had another name before

# Settings of `FinetuningConfig`, which has their defaults: flag, type, metavar, help.
TRAINING = (
    ("--epochs", cli.positive_int, "N", "maximum number of them"),
    ("--min-steps", cli.positive_int, "N", "minimum number of batches an epoch, for small fractions"),
    ("--patience", cli.positive_int, "N", "epochs without a lower validation loss before it stops"),
    ("--batch-size", cli.positive_int, "N", "clips a batch"),
    ("--learning-rate", cli.positive, "R", "of Adam at the start; falls to 0 along half a cosine"),
    ("--head-learning-rate", cli.positive, "R", "the same for head and random"),
    (
        "--backbone-learning-rate-factor",
        cli.positive,
        "F",
        "finetune: what the learning rate of the weights below the head is multiplied by",
    ),
    (
        "--unfreeze-epochs",
        cli.count,
        "N",
        "finetune: epochs until the next lower layer is trained, too; 0: all at once",
    ),
    ("--label-smoothing", cli.fraction, "F", "fraction of the target that is spread over all labels"),
    ("--dropout", cli.fraction, "F", "fraction of the last layer's features that is dropped, in training"),
    ("--spec-augment", cli.count, "N", "number of masks of frames, and of bands"),
)

validation_fraction = cli.number(
    float, lambda value: 0 < value <= 0.5, "more than 0, up to 0.5: the validation clips decide when a training stops"
)


def arguments():
    parser = cli.parser(__doc__)
    cli.add_model_argument(parser, "the source: a model folder")
    cli.add_dataset_arguments(parser)
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="for results.csv and the picture")
    parser.add_argument(
        "--strategy",
        nargs="+",
        metavar="NAME",
        choices=STRATEGIES,
        default=["finetune", "scratch"],
        help="one or more of %(choices)s",
    )
    parser.add_argument(
        "--fractions",
        nargs="+",
        type=cli.part,
        default=[0.1, 0.2, 0.4, 0.7, 1.0],
        metavar="F",
        help="of the training clips, the labels in proportion; each contains the smaller ones",
    )
    parser.add_argument(
        "--seeds", type=cli.positive_int, default=1, metavar="N", help="repetitions, with seeds from --seed on"
    )
    parser.add_argument(
        "--clip-seconds",
        type=cli.seconds,
        metavar="S",
        help="clip length (default: the source's or that of the longest clip, whichever is shorter; of a source that "
        "hears clips whole, that of the longest clip)",
    )
    cli.add_division_arguments(parser, validation_fraction)
    parser.add_argument(
        "--jobs",
        type=cli.at_a_time,
        metavar="N",
        default=os.cpu_count() or 1,
        help="trainings at a time, a core each",
    )
    parser.add_argument(
        "--save-models", action="store_true", help="keep the networks that are trained now, in DIR/models"
    )
    add_training_arguments(parser.add_argument_group("training"))
    return parser


def add_training_arguments(group):
    for flag, kind, metavar, text in TRAINING:
        default = getattr(FinetuningConfig, flag[2:].replace("-", "_"))
        group.add_argument(flag, type=kind, metavar=metavar, default=default, help=text)
    group.add_argument(
        "--share-below-head",
        dest="backbone_learning_rate_factor",
        type=cli.positive,
        action=cli.DeprecatedFlag,
        const="--backbone-learning-rate-factor",
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    group.add_argument("--finetune-from", metavar="LAYER", help="finetune: the lowest layer to train (default: all)")
    group.add_argument("--layers", metavar="NAME+...", help="probe: such as stage1+stage3 (default: all)")


def check(options, card, config):
    """Refuse what cannot end well, before any work is done."""
    if options.seed + options.seeds > 2**32:
        raise InputError(
            f"--seeds: {options.seeds} from {options.seed} on go beyond {2**32 - 1}; choose a smaller --seed"
        )
    cli.check_folder("--output-dir", options.output_dir)
    if options.dataset is None:
        raise InputError(f"--dataset: none given; name the target, one of {', '.join(DATASETS)}")
    if target_names(options.dataset):
        raise InputError(f"--dataset: {options.dataset} has numbers, no labels; extract its features and probe them")
    card.require_single_clips(options.model_dir, "no training can use")
    keras_file(options.model_dir)
    config.check_layers(card.layer_names)
    check_place(options)


def check_place(options):
    """Refuse to destroy what is an input or no transfer's, and keep other runs away."""
    folder, inputs = options.output_dir, [options.data_dir, options.model_dir]
    for name in (RESULTS, SETTINGS):
        places.check_no_input("--output-dir", folder / name, inputs)
    places.check_state("--output-dir", [folder / RESULTS, folder / UNFINISHED], folder / SETTINGS, inputs)
    places.lock(folder)


def check_network(options, config):
    """Refuse a network that can be served, but not be trained from the spectrogram on."""
    from keras_audio_transfer import finetuning
    from keras_audio_transfer.extractor import spectrogram_of

    network = finetuning.load_network(options.model_dir)
    spectrogram_of(network)
    config.check_layers([*network.output])


def trials_of(options):
    return [
        Trial(strategy, fraction, options.seed + number)
        for number in range(options.seeds)
        for strategy in dict.fromkeys(options.strategy)
        for fraction in sorted({*options.fractions}, reverse=True)
    ]


# ---- the target


def load_clips(options):
    """The target's clips, not decoded yet."""
    clips = cli.load_clips(options)
    if any(len(clip.labels) > 1 for clip in clips):
        raise InputError(
            f"{options.dataset}: some clips have several labels; strategies are compared on one label a clip"
        )
    cli.check_division(options, clips)
    return clips


def decode(options, clips, config, phases):
    """The target, the store of its waveforms, and the clips that cannot be read."""
    from keras_audio_transfer import finetuning

    beside = options.output_dir / RESULTS
    clips, failures, store, config = cli.decode_clips(
        options, options.dataset, clips, config, beside, phases, cache="memory"
    )
    config = for_whole_clips(options, clips, store, config)
    splits = divide(clips, options.test_fold, options.validation_fraction, options.seed)
    names = cli.label_names(clips)
    check_splits(options, splits, names)
    spectrograms = options.output_dir / UNFINISHED / "spectrograms.npy"
    return finetuning.Task(clips[0].dataset, splits, names, config, spectrograms), store, failures


def for_whole_clips(options, clips, store, config):
    """The front end for batches of whole clips, where a network hears them whole: of the length of the longest."""
    if config.long_clips != "whole":
        return config
    config = config.for_batches_of(max(len(store.load(clip)) for clip in clips) / config.sample_rate)
    cli.say(options, f"clips are heard whole, filled up to {config.clip_seconds:g} s; --clip-seconds cuts them")
    return config


def check_splits(options, splits, names):
    """Every label needs clips to train on, also in the smallest fraction."""
    trained = {label for clip in splits.train for label in clip.labels}
    for name in names:
        if name not in trained:
            raise InputError(f"{options.dataset}: {name!r} has no clip for training; add some, or leave the label out")
    if len(names) < 2:
        raise InputError(f"{options.dataset}: has one label, {names[0]!r}; expected at least two")
    for fraction in options.fractions:
        nested_subset(splits.train, fraction, options.seed)


def settings_of(options, card, task, config):
    """What trainings must have in common to be compared in one table."""
    return {
        "source": str(card.weights_sha256),
        CARD: card.fingerprint(),
        "dataset": options.dataset,
        "labels": task.label_names,
        "clips": [len(task.splits.train), len(task.splits.validation), len(task.splits.test)],
        "division": task.splits.description,
        FINGERPRINT: task.splits.fingerprint(),
        "audio": task.config.to_dict(),
        "seed": options.seed,
        **asdict(config),
    }


# ---- the results


class Table:
    """results.csv: what has been trained, of this run and of those before it.

    Args:
        path: of the file.
        key: what all rows have in common: source, target, network and multiscale.

    Raises:
        InputError: the file is of another transfer.
    """

    def __init__(self, path: Path, key: dict):
        from keras_audio_transfer import finetuning_results as results

        self.path, self.key = path, key
        self.rows = results.read([path]).to_dict("records") if path.exists() else []
        for row in self.rows:
            other = {name: row[name] for name in key if row[name] != key[name]}
            if other:
                was, now = (", ".join(f"{name} {values[name]}" for name in other) for values in (row, key))
                raise InputError(f"{path}: is of another transfer ({was}, not {now}); choose another --output-dir")

    def has(self, trial: Trial) -> bool:
        """Whether a trial has ended before."""
        return any(asdict(trial).items() <= row.items() for row in self.rows)

    def add(self, row: dict) -> None:
        """Write a row of `finetuning.run_trial` to the file."""
        import pandas as pd

        from keras_audio_transfer import finetuning_results as results

        self.rows.append({**self.key, **row})
        table = pd.DataFrame(self.rows, columns=results.COLUMNS)
        table = table.sort_values(["strategy", "fraction", "seed"]).astype({"epochs": "Int64"})
        with atomic_write(self.path) as partial:
            table.to_csv(partial, index=False)


def open_table(options, card, settings):
    """The table in the folder of the results; refuses that of another transfer or other settings."""
    key = {
        "source": (card.training_data or {}).get("dataset", options.model_dir.name),
        "target": options.dataset,
        "network": card.network or options.model_dir.name,
        "multiscale": bool(card.multiscale),
    }
    table = Table(options.output_dir / RESULTS, key)
    check_settings(options.output_dir / SETTINGS, settings, RENAMED, added=[FINGERPRINT, CARD])
    return table


def say_what_has_no_model(options, ended, path):
    for trial in ended:
        if trial.strategy != "probe" and not (options.output_dir / MODELS / trial.file_name).is_dir():
            cli.say(options, f"{trial}: ended before, without a model; remove its row from {path} to train it again")


def show(table, key):
    from keras_audio_transfer import finetuning_results as results

    shown = results.means(table).drop(columns=[*key, "train_clips"])
    shown["fraction"] = shown["fraction"].map(fraction_name)
    cli.show(shown.to_string(index=False, float_format="{:.3f}".format))
    for row in results.matching_fractions(table).itertuples():
        smallest = table.loc[table["strategy"] == "finetune", "fraction"].min()
        text = results.fraction_text(row.fraction, row.low, row.high, smallest)
        cli.show(f"fraction at which finetune matches scratch on all clips ({row.scratch:.3f}): {text}")


def draw(options, table, key):
    from keras_audio_transfer.training import plots as training_plots

    title = f"{key['source']} to {key['target']}, {key['network']}{', multiscale' * key['multiscale']}"
    training_plots.transfer_curves(table, options.output_dir / "transfer.*", title)


# ---- the trainings


def train(options, trials, task, store, config, table, phases):
    """Train the trials, and add each to the table as it ends."""
    from keras_audio_transfer import finetuning
    from keras_audio_transfer.training.input_pipeline import evaluation_batches, targets

    phases.begin("computing spectrograms")
    batches = evaluation_batches(task.clips, targets(task.clips, task.label_names), store, task.config, 32)
    finetuning.write_spectrograms(task, batches)
    progress = phases.bar("training", len(trials), "trial")()

    def finished(row):
        table.add(row)
        progress.update()

    run_trials(options, trials, task, config, finished)
    progress.close()
    shutil.rmtree(options.output_dir / UNFINISHED)


def run_trials(options, trials, task, config, finished: Callable[[dict], None]):
    """Train the trials, several at a time; call `finished` with each row as it comes."""
    from keras_audio_transfer.finetuning import run_trial

    runs = options.output_dir / UNFINISHED
    models = options.output_dir / MODELS if options.save_models else None
    calls = {}
    for trial in trials:
        (runs / trial.file_name).mkdir(parents=True, exist_ok=True)
        predicted = options.output_dir / PREDICTIONS / f"{trial.file_name}.csv"
        calls[trial] = trial, options.model_dir, task, config, runs / trial.file_name, models, predicted
    with closing(own_processes.as_they_end(run_trial, calls, options.jobs)) as ended:
        for trial, future in ended:
            try:
                finished(future.result())
            except InputError as error:
                raise InputError(f"{trial}: {error}") from error
            shutil.rmtree(runs / trial.file_name)


@cli.command(arguments)
def main(options):
    card = Card.read(options.model_dir)
    config = FinetuningConfig(**{field.name: getattr(options, field.name) for field in fields(FinetuningConfig)})
    check(options, card, config)
    clips = load_clips(options)
    check_network(options, config)
    phases = cli.Phases(options, "decoding", "computing spectrograms", "training")
    task, store, failures = decode(options, clips, card.audio, phases)
    rate = f"at the source's {task.config.sample_rate} Hz, clips of other rates resampled"
    cli.say(options, f"{options.dataset}: {task.splits.description}; {rate}")
    table = open_table(options, card, settings_of(options, card, task, config))
    trials = trials_of(options)
    if options.save_models:
        say_what_has_no_model(options, [trial for trial in trials if table.has(trial)], table.path)
    trials = [trial for trial in trials if not table.has(trial)]
    if trials:
        train(options, trials, task, store, config, table, phases)

    from keras_audio_transfer import finetuning_results as results

    rows = results.read([table.path])
    show(rows, table.key)
    with cli.picture():
        draw(options, rows, table.key)
    cli.show(f"written: {options.output_dir}")
    cli.say_licences(options, card)
    return cli.report_failures(failures, table.path)
