"""Transfer a trained network to another data set, and compare that with doing without.

    python scripts/transfer.py saved_models/densenet40.urbansound8k --dataset fsdd --data-dir data/FSDD \\
        --output-dir transfers/fsdd --strategy finetune scratch --fractions 0.1 1.0 --seeds 3

finetune  new head, all trained on; or from a layer on (--finetune-from), or layer by layer (--unfreeze-epochs)
scratch   the same network with fresh weights
head      new head on the frozen network
probe     support vector machine on the frozen network's layers (--layers)
random    new head on a frozen network with random weights

What is frozen keeps its weights, and its batch normalisation the stored statistics; what is trained normalises each
batch by its own. The random network's statistics, but no weights, are taken from up to 512 training clips.

results.csv gets a row per training, at once: a killed run continues with the same command, and the same command with
more strategies, fractions or seeds adds to it. finetuning.png shows accuracy against the share of the training clips.
"""

import fcntl
import multiprocessing
import os
import shutil
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd

from keras_audio_transfer import finetuning_results as results
from keras_audio_transfer.commands import cli
from keras_audio_transfer.datasets import DATASETS, label_names, target_names
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write
from keras_audio_transfer.finetuning_config import FinetuningConfig, Trial
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.resume import check_settings
from keras_audio_transfer.splits import check_fraction, divide, nested_subset

RESULTS, MODELS = "results.csv", "models"


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("model_dir", type=Path, metavar="MODEL_DIR", help="the source: a model folder")
    cli.add_dataset_arguments(parser)
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="for results.csv and the picture")
    parser.add_argument(
        "--strategy",
        nargs="+",
        default=["finetune", "scratch"],
        metavar="NAME",
        help=f"one or more of {', '.join(results.STRATEGIES)}",
    )
    parser.add_argument(
        "--fractions",
        nargs="+",
        type=float,
        default=[0.1, 0.2, 0.4, 0.7, 1.0],
        metavar="SHARE",
        help="of the training clips, the labels in proportion; each contains the smaller ones",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="repetitions, with seeds from --seed on")
    parser.add_argument(
        "--clip-seconds",
        type=float,
        help="clip length; if not given, the source's or that of the longest clip, whichever is shorter",
    )
    cli.add_division_arguments(parser)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trainings at a time, a core each")
    parser.add_argument(
        "--save-models", action="store_true", help="keep the networks that are trained now, in DIR/models"
    )
    finetuning_config = parser.add_argument_group("training")
    of_recipe = {
        "--epochs": "at most so many",
        "--min-steps": "batches an epoch at least, for small shares",
        "--patience": "epochs without a lower validation loss before it stops",
        "--batch-size": "clips a batch",
        "--learning-rate": "of Adam at the start; falls to 0 by a cosine",
        "--head-learning-rate": "the same for head and random",
        "--share-below-head": "finetune: share of the rate for the weights below the head",
        "--unfreeze-epochs": "finetune: epochs until the next lower layer is trained, too; 0: all at once",
        "--label-smoothing": "share of the target spread over all labels",
        "--dropout": "share of the last layer's features, in training",
        "--spec-augment": "masks of frames, and as many of bands",
    }
    for flag, text in of_recipe.items():
        default = getattr(FinetuningConfig, flag[2:].replace("-", "_"))
        finetuning_config.add_argument(flag, type=type(default), default=default, help=text)
    finetuning_config.add_argument(
        "--finetune-from", metavar="LAYER", help="finetune: the lowest layer to train; all if not given"
    )
    finetuning_config.add_argument("--layers", help="probe: such as stage1+stage3; all if not given")
    return parser


def check(options, card):
    """Refuse what cannot end well, before any work is done."""
    for name in options.strategy:
        if name not in results.STRATEGIES:
            raise InputError(f"--strategy: {name!r} is unknown; choose from {', '.join(results.STRATEGIES)}")
    for flag, value in (("--seeds", options.seeds), ("--jobs", options.jobs)):
        if value < 1:
            raise InputError(f"{flag}: {value} is not allowed; expected 1 or more")
    if options.seed + options.seeds > 2**32:
        raise InputError(
            f"--seeds: {options.seeds} from {options.seed} on go beyond {2**32 - 1}; choose a smaller --seed"
        )
    for fraction in options.fractions:
        check_fraction(fraction)
    if options.output_dir.exists() and not options.output_dir.is_dir():
        raise InputError(f"--output-dir: {options.output_dir} is a file; name a folder")
    if options.dataset is None:
        raise InputError(f"--dataset: none given; name the target, one of {', '.join(DATASETS)}")
    if target_names(options.dataset):
        raise InputError(f"--dataset: {options.dataset} has numbers, no labels; extract its features and probe them")
    if not 0 < options.validation_fraction <= 0.5:
        raise InputError(
            f"--validation-fraction: {options.validation_fraction} is not allowed; expected more than 0, up to 0.5: "
            "the validation clips decide when a training stops"
        )
    card.require_single_clips(options.model_dir, "no training can use")


def lock(folder):
    """Refuse to work beside another run in the same folder; the lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"{folder}: another finetuning.py works there; wait for it, or name another folder") from error


def load_task(options, config):
    """The target's splits, label names, store and front end; and the clips that cannot be read."""
    clips = cli.load_clips(options)
    if any(len(clip.labels) > 1 for clip in clips):
        raise InputError(
            f"{options.dataset}: some clips have several labels; strategies are compared on one label a clip"
        )
    results = options.output_dir / RESULTS
    clips, failures, store, config = cli.decode_clips(options, options.dataset, clips, config, results, cache="memory")
    splits = divide(clips, options.test_fold, options.validation_fraction, options.seed)
    names = label_names(clips, DATASETS[options.dataset].LABELS)
    trained = {label for clip in splits.train for label in clip.labels}
    for name in names:
        if name not in trained:
            raise InputError(f"{options.dataset}: {name!r} has no clip for training; add some, or leave the label out")
    if len(names) < 2:
        raise InputError(f"{options.dataset}: has one label, {names[0]!r}; expected at least two")
    for fraction in options.fractions:
        nested_subset(splits.train, fraction, options.seed)  # before any work is done
    return splits, names, store, config, failures


def run_trials(options, trials, task, finetuning_config, finished):
    """Train the trials, several at a time; call `finished` with each row as it comes."""
    from keras_audio_transfer.finetuning import run_trial

    runs = options.output_dir / "unfinished"
    models = options.output_dir / MODELS if options.save_models else None
    context = multiprocessing.get_context("spawn")

    def in_its_process(trial):
        # A process a trial, with one thread: its numbers then depend on nothing that ran before or beside it.
        (runs / trial.file_name).mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(1, context, _start_worker, (os.getpid(),)) as process:
            arguments = trial, options.model_dir, task, finetuning_config, runs / trial.file_name, models
            return process.submit(run_trial, *arguments).result()

    threads = ThreadPoolExecutor(options.jobs)
    futures = {threads.submit(in_its_process, trial): trial for trial in trials}
    try:
        for future in as_completed(futures):
            try:
                finished(future.result())
            except InputError as error:
                raise InputError(f"{futures[future]}: {error}") from error
            except BrokenProcessPool as error:
                raise InputError(
                    f"{futures[future]}: its process was killed, by a lack of memory perhaps; repeat the command with "
                    "fewer --jobs, and it continues"
                ) from error
            shutil.rmtree(runs / futures[future].file_name)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in futures):
            for process in multiprocessing.active_children():
                process.terminate()
            time.sleep(0.1)


def say_what_has_no_model(options, ended, path):
    for trial in ended:
        if trial.strategy != "probe" and not (options.output_dir / MODELS / trial.file_name).is_dir():
            cli.say(options, f"{trial}: ended before, without a model; remove its row from {path} to train it again")


def _start_worker(parent):
    """No life without the process that started it, which may be gone already; and one thread of TensorFlow."""

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


@cli.command(arguments)
def main(options):
    card = Card.read(options.model_dir)
    check(options, card)
    from keras_audio_transfer import finetuning, plots
    from keras_audio_transfer.extractor import spectrogram_of
    from keras_audio_transfer.input_pipeline import evaluation_batches, targets

    names = [field.name for field in fields(FinetuningConfig)]
    finetuning_config = FinetuningConfig(**{name: getattr(options, name) for name in names})
    network = finetuning.load_network(options.model_dir)
    spectrogram_of(network)  # refuses what can be served, but not be trained from the spectrogram on
    finetuning_config.check_layers([*network.output])
    trials = [
        Trial(strategy, fraction, options.seed + number)
        for number in range(options.seeds)
        for strategy in dict.fromkeys(options.strategy)
        for fraction in sorted({*options.fractions}, reverse=True)
    ]
    splits, names, store, config, failures = load_task(options, card.audio)
    cli.say(
        options,
        f"{options.dataset}: {splits.description}; at the source's {config.sample_rate} Hz, others are resampled",
    )
    settings = {
        "source": str(card.weights_sha256),
        "dataset": options.dataset,
        "labels": names,
        "clips": [len(splits.train), len(splits.validation), len(splits.test)],
        "division": splits.description,
        "audio": config.to_dict(),
        "seed": options.seed,
        **asdict(finetuning_config),
    }
    lock(options.output_dir)
    path = options.output_dir / RESULTS
    key = {
        "source": (card.training_data or {}).get("dataset", options.model_dir.name),
        "target": options.dataset,
        "network": card.network or options.model_dir.name,
        "multiscale": bool(card.multiscale),
    }
    rows = results.read([path]).to_dict("records") if path.exists() else []
    for row in rows:
        other = {name: row[name] for name in key if row[name] != key[name]}
        if other:
            was, now = (", ".join(f"{name} {values[name]}" for name in other) for values in (row, key))
            raise InputError(f"{path}: is of another transfer ({was}, not {now}); choose another --output-dir")
    check_settings(options.output_dir / "settings.json", settings)
    done = {(row["strategy"], row["fraction"], row["seed"]) for row in rows}
    ended = [trial for trial in trials if (trial.strategy, trial.fraction, trial.seed) in done]
    trials = [trial for trial in trials if trial not in ended]
    if options.save_models:
        say_what_has_no_model(options, ended, path)
    progress = cli.progress_bar(options, "training", len(trials), unit="trial")(None)

    def finished(row):
        rows.append({**key, **row})
        table = pd.DataFrame(rows, columns=results.COLUMNS)
        table = table.sort_values(["strategy", "fraction", "seed"]).astype({"epochs": "Int64"})
        with atomic_write(path) as partial:
            table.to_csv(partial, index=False)
        progress.update()

    if trials:
        task = finetuning.Task(
            options.dataset, splits, names, config, options.output_dir / "unfinished" / "spectrograms.npy"
        )
        clip_targets = targets(task.clips, names)
        finetuning.write_spectrograms(task, evaluation_batches(task.clips, clip_targets, store, config, 32))
        run_trials(options, trials, task, finetuning_config, finished)
        shutil.rmtree(options.output_dir / "unfinished")
    progress.close()

    table = results.read([path])
    for suffix in ("png", "svg"):
        title = f"{key['source']} to {key['target']}, {key['network']}{', multiscale' * key['multiscale']}"
        plots.transfer_curves(table, options.output_dir / f"transfer.{suffix}", title)
    shown = results.means(table).drop(columns=[*key, "train_clips"])
    print(shown.to_string(index=False, float_format="{:.3f}".format))
    for row in results.matching_fractions(table).itertuples():
        smallest = table.loc[table["strategy"] == "finetune", "fraction"].min()
        text = results.fraction_text(row.fraction, row.low, row.high, smallest)
        print(f"share at which finetune matches scratch on all clips ({row.scratch:.3f}): {text}")
    print(f"written: {options.output_dir}")
    return cli.report_failures(failures, path)
