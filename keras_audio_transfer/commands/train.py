"""Train a network on a data set and export it as a model folder.

Without arguments it trains ConvNet-5 on the embedded synthetic sounds:

    python scripts/train.py

On real data, with fold 10 scored and the other folds for training:

    python scripts/train.py --dataset urbansound8k --data-dir data/UrbanSound8K --test-fold 10

--epochs 0 exports the same network with random weights, the baseline every trained network has to beat.
An interrupted run continues with the same command and --resume, and ends with the same weights.
"""

import json
import math
import shutil
from pathlib import Path

from keras_audio_transfer.commands import cli
from keras_audio_transfer.config import PRESETS, preset
from keras_audio_transfer.datasets import DATASETS, label_names, target_names
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write, write_json
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.splits import divide, training_data


def arguments():
    parser = cli.parser(__doc__)
    cli.add_dataset_arguments(parser, default="synthetic")
    parser.add_argument("--network", default="convnet5", help="name in keras_audio_transfer/backbones")
    parser.add_argument(
        "--multiscale",
        action="store_true",
        help="parallel convolutions of growing dilation in front of the network (McMahan and Rao 2018)",
    )
    parser.add_argument(
        "--weights",
        help="the network's initial weights: imagenet (the networks of keras.applications have them; downloaded); "
        "random if not given",
    )
    parser.add_argument("--preset", default="short16k", help=f"front end, one of {', '.join(PRESETS)}")
    parser.add_argument(
        "--clip-seconds",
        type=float,
        help="clip length; if not given, the preset's or that of the longest clip, whichever is shorter",
    )
    parser.add_argument(
        "--pooling", default="mean_deviation", help="how maps become features: mean, max or mean_deviation"
    )
    parser.add_argument("--epochs", type=int, default=40, help="at most so many; 0 keeps the initial weights")
    parser.add_argument(
        "--patience", type=int, default=15, help="epochs without a lower validation loss before it stops"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="clips a batch")
    parser.add_argument(
        "--learning-rate", type=float, default=2e-3, help="of Adam at the start; falls to 0 by a cosine"
    )
    parser.add_argument("--label-smoothing", type=float, default=0.1, help="where there is one label a clip")
    parser.add_argument("--dropout", type=float, default=0.0, help="share of the last layer's features, in training")
    cli.add_division_arguments(parser)
    augment = parser.add_argument_group("augmentation, in training only; 0 switches a part off")
    augment.add_argument("--gain-decibel", type=float, default=0.0, help="random gain up to this")
    augment.add_argument("--shift-seconds", type=float, default=1.0, help="random rotation up to this")
    augment.add_argument("--noise-probability", type=float, default=0.3, help="share of clips with added white noise")
    augment.add_argument("--mixup", type=float, default=0.3, help="alpha of mixup")
    augment.add_argument("--spec-augment", type=int, default=2, help="masks of frames, and as many of bands")
    augment.add_argument("--no-random-crop", action="store_true", help="cut longer clips as in evaluation")
    parser.add_argument("--cache", default="memory", help="decoded waveforms: memory, none, or a folder")
    parser.add_argument("--output-dir", type=Path, help="model folder; saved_models/NETWORK.DATASET if not given")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run of the same command")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model folder")
    return parser


def settings_of(options):
    """What a run that is resumed must have in common with the interrupted one."""
    apart = ("quiet", "resume", "overwrite", "download", "cache", "output_dir")
    settings = {name: value for name, value in vars(options).items() if name not in apart}
    return {**settings, "data_dir": str(options.data_dir) if options.data_dir else None}


def check(options, output_dir, run_dir):
    """Refuse what cannot end well, before any work is done."""
    for name, at_least in (("epochs", 0), ("patience", 1), ("batch_size", 1), ("spec_augment", 0)):
        if getattr(options, name) < at_least:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag}: {getattr(options, name)} is not allowed; expected at least {at_least}")
    for name in ("dropout", "label_smoothing"):
        if not 0 <= getattr(options, name) < 1:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag}: {getattr(options, name)} is not allowed; expected 0 to below 1")
    if not options.learning_rate > 0:
        raise InputError(f"--learning-rate: {options.learning_rate} is not allowed; expected a number above 0")
    if not output_dir.name:
        raise InputError(f"--output-dir: {output_dir} is the current folder; name a new one, such as saved_models/mine")
    if output_dir.exists() and not options.overwrite:
        raise InputError(f"{output_dir}: exists; pass --overwrite to replace it or --output-dir for another place")
    if options.resume and (run_dir / "settings.json").exists():
        earlier = json.loads((run_dir / "settings.json").read_text(encoding="utf-8"))
        for name, value in settings_of(options).items():
            if value != earlier.get(name):
                raise InputError(
                    f"--resume: the interrupted run had {name} {earlier.get(name)!r}, not {value!r}; "
                    "repeat its command, or start again without --resume"
                )


@cli.command(arguments)
def main(options):
    output_dir = options.output_dir or Path("saved_models") / f"{options.network}.{options.dataset}"
    run_dir = output_dir.parent / f"{output_dir.name}.training"
    check(options, output_dir, run_dir)
    config = preset(options.preset)
    if target_names(options.dataset):
        targets = " and ".join(target_names(options.dataset))
        raise InputError(
            f"--dataset: {options.dataset} has no labels but numbers ({targets}), and networks are trained on labels "
            "only; extract its features with a trained model and probe them"
        )
    clips = cli.load_clips(options)
    cache = None if options.cache == "none" else options.cache
    kept = {"whole_clips": not options.no_random_crop, "cache": cache}
    clips, failures, store, config = cli.decode_clips(options, options.dataset, clips, config, output_dir, **kept)
    splits = divide(clips, options.test_fold, options.validation_fraction, options.seed)
    cli.say(options, f"{options.dataset}: {splits.description}")
    train(options, config, splits, store, output_dir, run_dir)
    return cli.report_failures(failures, output_dir)


def train(options, config, splits, store, output_dir, run_dir):
    import keras
    import tensorflow as tf

    from keras_audio_transfer import plots, training
    from keras_audio_transfer.backbones import backbone
    from keras_audio_transfer.export import saved_model
    from keras_audio_transfer.extractor import build_extractor
    from keras_audio_transfer.heads import add_head
    from keras_audio_transfer.input_pipeline import Augmentation, evaluation_batches, targets, training_batches
    from keras_audio_transfer.layers import DILATIONS

    if options.quiet:
        keras.config.disable_interactive_logging()  # else Keras shows how it downloads weights
    keras.utils.set_random_seed(options.seed)
    tf.config.experimental.enable_op_determinism()
    clips_of = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    every_clip = [clip for clips in clips_of.values() for clip in clips]
    names = label_names(every_clip, DATASETS[options.dataset].LABELS)
    multi_label = any(len(clip.labels) > 1 for clip in every_clip)
    dilations = DILATIONS if options.multiscale else ()
    extractor = build_extractor(
        config, options.network, options.pooling, options.spec_augment, options.seed, dilations, options.weights
    )
    model = add_head(extractor, len(names), multi_label, options.dropout)
    augmentation = Augmentation(
        random_crop=not options.no_random_crop,
        gain_decibel=options.gain_decibel,
        shift_seconds=options.shift_seconds,
        noise_probability=options.noise_probability,
        mixup=options.mixup,
    )

    def batches(epochs):
        y = targets(splits.train, names)
        return training_batches(splits.train, y, store, config, options.batch_size, options.seed, epochs, augmentation)

    def scored(clips):
        return evaluation_batches(clips, targets(clips, names), store, config, options.batch_size)

    if run_dir.exists() and not options.resume:
        shutil.rmtree(run_dir)
    write_json(run_dir / "settings.json", settings_of(options))
    callbacks = [keras.callbacks.TensorBoard(run_dir / "tensorboard", write_graph=False)]
    if not options.quiet:
        callbacks.append(training.EpochLine(options.epochs))
    history = training.fit(
        model,
        batches,
        scored(splits.validation) if splits.validation else None,
        steps_per_epoch=math.ceil(len(splits.train) / options.batch_size),
        epochs=options.epochs,
        run_dir=run_dir,
        multi_label=multi_label,
        learning_rate=options.learning_rate,
        label_smoothing=options.label_smoothing,
        patience=options.patience,
        resume=options.resume,
        callbacks=callbacks,
    )
    scores = {part: training.evaluate(model, scored(clips), multi_label) for part, clips in clips_of.items() if clips}
    card = Card(
        config,
        network=options.network,
        network_citation=backbone(options.network).CITATION,
        multiscale=dilations,
        initial_weights=options.weights,
        pooling=options.pooling,
        labels=names,
        multi_label=multi_label,
        training_data=training_data(options.dataset, splits),
        epochs_trained=len(history),
        scores=scores,
        settings={name: value for name, value in settings_of(options).items() if name != "data_dir"},
        seed=options.seed,
    )
    with atomic_write(output_dir) as partial:
        partial.mkdir()
        difference = saved_model.write_model(partial, model, card)
        history.to_csv(partial / "history.csv", index=False)
        plots.learning_curves(history, partial / "training.png", f"{options.network} on {options.dataset}")
        if (run_dir / "tensorboard").exists():
            shutil.move(run_dir / "tensorboard", partial / "tensorboard")
    shutil.rmtree(run_dir)
    for part, values in scores.items():
        print(f"{part}: " + ", ".join(f"{name} {value:.3f}" for name, value in values.items()))
    print(f"reloaded in a fresh process: largest difference {difference:.1e}")
    print(f"written: {output_dir}")
