"""Train a network on a data set and export it as a model folder.

Without arguments it trains ConvNet-5 on the embedded synthetic sounds:

    keras-audio-transfer train

On real data, with fold 10 scored and the other folds for training:

    keras-audio-transfer train --dataset urbansound8k --data-dir data/UrbanSound8K --test-fold 10

--epochs 0 exports the same network with random weights, the baseline every trained network has to beat.
An interrupted run continues with the same command and --resume, and ends with the same weights.

--strategy trains on all GPUs of this machine (mirrored), or of several machines, each of which runs the same command
with its own TF_CONFIG (multiworker). --batch-size is that of all devices together.
"""

import math
import shutil
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from keras_audio_transfer.backbones import BACKBONES, IMAGENET, backbone, check_weights
from keras_audio_transfer.commands import cli, places
from keras_audio_transfer.config import POOLINGS, PRESETS, AudioConfig, preset
from keras_audio_transfer.datasets import target_names
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write, beside, read_json, write_json
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.resume import STATE
from keras_audio_transfer.splits import FINGERPRINT, Splits, divide, training_data
from keras_audio_transfer.training import workers as training_workers

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_audio_transfer.audio.loading import WaveformStore

SETTINGS = "settings.json"
MIRRORED, MULTIWORKER = "mirrored", "multiworker"


def arguments():
    parser = cli.parser(__doc__)
    cli.add_dataset_arguments(parser, default="synthetic")
    cli.add_division_arguments(parser)
    parser.add_argument(
        "--cache", type=cache, default="memory", help="where decoded waveforms are kept: memory, none, or a folder"
    )
    parser.add_argument("--output-dir", type=Path, help="model folder (default: saved_models/NETWORK.DATASET)")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run of the same command")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an existing model folder, or the state of an interrupted run"
    )
    add_network_arguments(parser.add_argument_group("network"))
    add_training_arguments(parser.add_argument_group("training"))
    add_augmentation_arguments(parser.add_argument_group("augmentation, in training only; 0 switches a part off"))
    return parser


def add_network_arguments(group):
    group.add_argument("--network", metavar="NAME", choices=[*BACKBONES], default="convnet5", help="one of %(choices)s")
    group.add_argument(
        "--multiscale",
        action="store_true",
        help="parallel convolutions of growing dilation in front of the network (McMahan and Rao 2018)",
    )
    group.add_argument(
        "--weights",
        metavar="NAME",
        choices=[IMAGENET],
        help="the network's initial weights: %(choices)s, which the networks of keras.applications have (downloaded) "
        "(default: random)",
    )
    group.add_argument(
        "--preset", metavar="NAME", choices=[*PRESETS], default="short16k", help="front end, one of %(choices)s"
    )
    group.add_argument(
        "--clip-seconds",
        type=cli.seconds,
        metavar="S",
        help="clip length (default: the preset's or that of the longest clip, whichever is shorter)",
    )
    group.add_argument(
        "--pooling",
        metavar="NAME",
        choices=POOLINGS,
        default="mean_deviation",
        help="how feature maps become features, over time and frequency: one of %(choices)s (mean and standard "
        "deviation)",
    )


def add_training_arguments(group):
    group.add_argument(
        "--epochs", type=cli.count, metavar="N", default=40, help="maximum number of them; 0 keeps the initial weights"
    )
    group.add_argument(
        "--patience",
        type=cli.positive_int,
        metavar="N",
        default=15,
        help="epochs without a lower validation loss before it stops",
    )
    group.add_argument("--batch-size", type=cli.positive_int, metavar="N", default=32, help="clips a batch")
    group.add_argument(
        "--strategy",
        metavar="NAME",
        choices=[MIRRORED, MULTIWORKER],
        help="share every batch among devices, one of %(choices)s: this machine's, or also those of the others that "
        "TF_CONFIG names (default: one device)",
    )
    group.add_argument(
        "--learning-rate",
        type=cli.positive,
        metavar="R",
        default=2e-3,
        help="of Adam at the start; falls to 0 along half a cosine",
    )
    group.add_argument(
        "--label-smoothing", type=cli.fraction, metavar="F", default=0.1, help="where there is one label a clip"
    )
    group.add_argument(
        "--dropout",
        type=cli.fraction,
        metavar="F",
        default=0.0,
        help="fraction of the last layer's features that is dropped, in training",
    )


def add_augmentation_arguments(group):
    group.add_argument(
        "--gain-decibel", type=cli.not_negative, metavar="DB", default=0.0, help="maximum of the random gain"
    )
    group.add_argument(
        "--shift-seconds", type=cli.not_negative, metavar="S", default=1.0, help="maximum of the random rotation"
    )
    group.add_argument(
        "--noise-probability",
        type=cli.probability,
        metavar="P",
        default=0.3,
        help="fraction of the clips with added white noise",
    )
    group.add_argument("--mixup", type=cli.not_negative, metavar="ALPHA", default=0.3, help="alpha of mixup")
    group.add_argument(
        "--spec-augment", type=cli.count, metavar="N", default=2, help="number of masks of frames, and of bands"
    )
    group.add_argument("--no-random-crop", action="store_true", help="crop longer clips as in evaluation")


def cache(text):
    """The type of --cache."""
    return text if text in ("memory", "none") else str(places.path(text))


def settings_of(options):
    """What a run that is resumed must have in common with the interrupted one."""
    apart = ("quiet", "resume", "overwrite", "download", "cache", "output_dir")
    settings = {name: value for name, value in vars(options).items() if name not in apart}
    return {**settings, "data_dir": str(options.data_dir) if options.data_dir else None}


def check(options, run_dir, writes):
    """Refuse what cannot end well, before any work is done."""
    if writes:
        places.check_model_folder(options)
    places.check_state("--output-dir", [run_dir], run_dir / SETTINGS, [options.data_dir])
    if options.cache not in ("memory", "none"):
        places.check_folder("--cache", Path(options.cache))
    if options.weights is not None:
        check_weights(options.weights, options.network, len(dilations_of(options)) or 1)
    if target_names(options.dataset):
        targets = " and ".join(target_names(options.dataset))
        raise InputError(
            f"--dataset: {options.dataset} has no labels but numbers ({targets}), and networks are trained on labels "
            "only; extract its features with a trained model and probe them"
        )
    if (run_dir / STATE).exists() and not (options.resume or options.overwrite):
        what = f"{run_dir} is of a run that was interrupted; continue it with --resume, or start again with --overwrite"
        raise InputError(f"--output-dir: {what}")
    settings, earlier = settings_of(options), interrupted(options, run_dir)
    for name in dict.fromkeys([*settings, *earlier] if earlier is not None else ()):
        was, now = earlier.get(name), settings.get(name)
        if name != FINGERPRINT and was != now:
            raise InputError(
                f"--resume: the interrupted run had {name} {was!r}, not {now!r}; "
                "repeat its command, or start again with --overwrite"
            )


def interrupted(options, run_dir):
    """The settings of the run to resume; None where there is none."""
    if not options.resume or not (run_dir / SETTINGS).exists():
        return None
    earlier = read_json(run_dir / SETTINGS)
    if not isinstance(earlier, dict):
        raise InputError(f"{run_dir / SETTINGS}: is damaged; remove {run_dir}, and start again")
    return earlier


def dilations_of(options):
    if not options.multiscale:
        return ()
    from keras_audio_transfer.layers import DILATIONS

    return DILATIONS


@dataclass(frozen=True)
class Job:
    """What a network is trained on: clips, decoded by a store to a front end, and devices; where the run's state is.

    Of several processes that train together, one `writes`.
    """

    splits: Splits
    store: "WaveformStore"
    config: AudioConfig
    names: list[str]
    run_dir: Path
    strategy: "tf.distribute.Strategy | None"
    writes: bool

    @property
    def parts(self):
        """The clips by the name of their part; parts without clips are left out."""
        parts = {"train": self.splits.train, "validation": self.splits.validation, "test": self.splits.test}
        return {part: clips for part, clips in parts.items() if clips}

    @property
    def multi_label(self):
        """Whether a clip can have several labels."""
        return any(len(clip.labels) > 1 for clips in self.parts.values() for clip in clips)


@cli.command(arguments)
def main(options):
    options.output_dir = options.output_dir or Path("saved_models") / f"{options.network}.{options.dataset}"
    run_dir = beside(options.output_dir, ".training")
    workers = training_workers.from_environment() if options.strategy == MULTIWORKER else None
    writes = workers is None or workers.is_chief
    check(options, run_dir, writes)
    strategy = strategy_of(options, workers)
    phases = cli.Phases(options, "decoding", "training", "exporting")
    job, failures = decode(options, run_dir, phases, strategy, writes)
    cli.say(options, f"{options.dataset}: {job.splits.description}")
    phases.begin("training")
    model, history = train(options, job)
    if not writes:
        return cli.report_failures(failures, None)
    scores = evaluate(options, job, model)
    phases.begin("exporting")
    write(options, job, model, card_of(options, job, len(history), scores), history)
    return cli.report_failures(failures, options.output_dir)


def strategy_of(options, workers):
    """The strategy that `--strategy` asked for, once all workers are there; None for none."""
    if options.strategy is None:
        return None
    import tensorflow as tf

    from keras_audio_transfer.training.distribution import answering, start_with_others

    if workers is None:
        strategy = tf.distribute.MirroredStrategy()
    else:
        workers.wait()
        with answering():
            strategy = start_with_others(training_workers.START_WITHIN)
    number = strategy.num_replicas_in_sync
    devices = f"{number} devices" if number > 1 else "one device, as without it"
    cli.say(options, f"--strategy {options.strategy}: {devices}")
    return strategy


def decode(options, run_dir, phases, strategy=None, writes=True):
    """The job, and the clips that cannot be read."""
    clips = cli.load_clips(options)
    cli.check_division(options, clips)
    cache = None if options.cache == "none" else options.cache
    kept = {"whole_clips": not options.no_random_crop, "cache": cache}
    name, output = options.dataset, options.output_dir if writes else None
    config = preset(options.preset)
    clips, failures, store, config = cli.decode_clips(options, name, clips, config, output, phases, **kept)
    names = cli.label_names(clips)
    splits = divide(clips, options.test_fold, options.validation_fraction, options.seed)
    earlier = interrupted(options, run_dir) or {}
    if earlier.get(FINGERPRINT) not in (None, splits.fingerprint()):  # None: of an older version
        what = "the interrupted run had other clips, or other labels or parts of them"
        raise InputError(f"--resume: {what}; bring those back, or start again with --overwrite")
    return Job(splits, store, config, names, run_dir, strategy, writes), failures


def train(options, job):
    """The trained model, and its history."""
    import keras
    import tensorflow as tf

    from keras_audio_transfer.training import distribution, fitting

    if options.quiet or not sys.stderr.isatty():
        keras.config.disable_interactive_logging()  # else Keras shows how it downloads weights
    keras.utils.set_random_seed(options.seed)
    tf.config.experimental.enable_op_determinism()
    settings = {**settings_of(options), FINGERPRINT: job.splits.fingerprint()}
    with job.strategy.scope() if job.strategy else nullcontext(), distribution.answering():
        if job.strategy:  # first: workers share the weights as they are made, which they cannot of two networks
            distribution.check_agreement(job.strategy, settings)
        model = build(options, job)
    callbacks = []
    if job.writes:
        if job.run_dir.exists() and not options.resume:
            shutil.rmtree(job.run_dir)
        write_json(job.run_dir / SETTINGS, settings)
        callbacks.append(keras.callbacks.TensorBoard(job.run_dir / "tensorboard", write_graph=False))
        if not options.quiet:
            callbacks.append(fitting.EpochLine(options.epochs))
    with distribution.answering():
        history = fitting.fit(
            model,
            training_batches_of(options, job),
            evaluation_batches_of(options, job, job.splits.validation) if job.splits.validation else None,
            steps_per_epoch=math.ceil(len(job.splits.train) / options.batch_size),
            epochs=options.epochs,
            run_dir=job.run_dir,
            multi_label=job.multi_label,
            learning_rate=options.learning_rate,
            label_smoothing=options.label_smoothing,
            patience=options.patience,
            resume=options.resume,
            callbacks=callbacks,
            identity=settings,
            strategy=job.strategy,
            writes=job.writes,
        )
    if job.strategy is None:
        return model, history
    distribution.stop_watching(job.strategy)
    alone = build(options, job)  # of ordinary variables, on one device
    alone.set_weights(model.get_weights())
    return alone, history


def build(options, job):
    """The network with its head."""
    from keras_audio_transfer.extractor import build_extractor
    from keras_audio_transfer.training.heads import add_head

    extractor = build_extractor(
        job.config,
        options.network,
        options.pooling,
        options.spec_augment,
        options.seed,
        dilations_of(options),
        options.weights,
    )
    return add_head(extractor, len(job.names), job.multi_label, options.dropout)


def training_batches_of(options, job):
    """A function from epochs to their augmented batches."""
    from keras_audio_transfer.training.input_pipeline import Augmentation, targets, training_batches

    clips, labels = job.splits.train, targets(job.splits.train, job.names)
    augmentation = Augmentation(
        random_crop=not options.no_random_crop,
        gain_decibel=options.gain_decibel,
        shift_seconds=options.shift_seconds,
        noise_probability=options.noise_probability,
        mixup=options.mixup,
    )
    batches = options.batch_size, options.seed
    return lambda epochs: training_batches(clips, labels, job.store, job.config, *batches, epochs, augmentation)


def evaluation_batches_of(options, job, clips):
    from keras_audio_transfer.training.input_pipeline import evaluation_batches, targets

    return evaluation_batches(clips, targets(clips, job.names), job.store, job.config, options.batch_size)


def evaluate(options, job, model):
    """Part -> measure -> value; each part's are shown at once."""
    from keras_audio_transfer.training import fitting

    scores = {}
    for part, clips in job.parts.items():
        scores[part] = fitting.evaluate(model, evaluation_batches_of(options, job, clips), job.multi_label)
        cli.show(f"{part}: " + ", ".join(f"{name} {value:.3f}" for name, value in scores[part].items()))
    return scores


def card_of(options, job, epochs_trained, scores):
    return Card(
        replace(job.config, long_clips="whole"),  # after training
        network=options.network,
        network_citation=backbone(options.network).CITATION,
        multiscale=dilations_of(options),
        initial_weights=options.weights,
        pooling=options.pooling,
        labels=job.names,
        multi_label=job.multi_label,
        training_data=training_data(job.splits.train[0].dataset, job.splits),
        epochs_trained=epochs_trained,
        scores=scores,
        settings={name: value for name, value in settings_of(options).items() if name != "data_dir"},
        seed=options.seed,
    )


def write(options, job, model, card, history):
    """Write the model folder, and remove what the run has kept."""
    from keras_audio_transfer.export import saved_model
    from keras_audio_transfer.training import plots as training_plots

    with atomic_write(options.output_dir) as partial:
        partial.mkdir()
        difference = saved_model.write_model(partial, model, card)
        history.to_csv(partial / "history.csv", index=False)
        title = f"{options.output_dir.name}: {training_plots.of_card(card)}, seed {card.seed}"
        with cli.picture():
            training_plots.learning_curves(history, partial / "training.png", title)
        if (job.run_dir / "tensorboard").exists():
            shutil.move(job.run_dir / "tensorboard", partial / "tensorboard")
    shutil.rmtree(job.run_dir)
    cli.show(f"reloaded in a fresh process: largest difference {difference:.1e}")
    cli.show(f"written: {options.output_dir}")
    cli.say_licences(options, card)
