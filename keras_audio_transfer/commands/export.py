"""Export a model to a model folder, or add a version of its SavedModel to one.

    keras-audio-transfer export saved_models/convnet5.urbansound8k --output-dir served/urban --version 2
    keras-audio-transfer export fine_tuned.keras --output-dir served/mine
    keras-audio-transfer export saved_models/convnet5.urbansound8k --output-dir served/urban --version 3 --serving
    keras-audio-transfer export saved_models/convnet5.urbansound8k --output-dir phone --tflite --clip-seconds 1

What is written is loaded again in a process without Keras, kapre and this package, compared with the model on random
clips, and only then appears under its name: a server that watches the folder sees all of a version or nothing of it.
A model that was trained on since card.json was written keeps its front end and labels: put the file beside the card,
and its own labels there. The card's training data, scores and settings then no longer hold and are left out. A card
that disagrees with the SavedModel beside it, though the weights are those that it names, is refused.
With --tflite only model.tflite is written, the TensorFlow Lite twin of the model for one clip of a fixed length.
"""

import shutil
from pathlib import Path

from keras_audio_transfer.commands import cli, places
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export import tf_serving
from keras_audio_transfer.files import atomic_publish, atomic_write
from keras_audio_transfer.model_folder import Card, keras_file, latest_saved_model, versions

# TF Serving keeps versions as int64: it does not see a larger one.
version_number = cli.number(int, lambda value: 1 <= value < 2**63, f"1 to {2**63 - 1}")


def arguments():
    parser = cli.parser(__doc__)
    text = "a model folder, a name that stands for one, as in other verbs, or a model.keras in or beside one"
    parser.add_argument("model", type=places.model_folder, metavar="MODEL", help=text)
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="model folder to write")
    parser.add_argument(
        "--version", type=version_number, metavar="N", help="TF Serving's version, a positive integer (default: 1)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the version if it is there, and files for TF Serving"
    )
    parser.add_argument(
        "--serving", action="store_true", help="add warm-up requests, configurations and a client for TF Serving"
    )
    parser.add_argument("--tflite", action="store_true", help="write model.tflite alone, for one clip at a time")
    parser.add_argument(
        "--clip-seconds",
        type=cli.seconds,
        metavar="S",
        help="length of that clip (default: that of the clips trained on)",
    )
    return parser


def read_model(path):
    """The model's card, and its file."""
    if path.is_dir():
        return Card.read(path), keras_file(path)
    if not path.is_file():
        raise InputError(f"{path}: does not exist; expected a model folder or a model.keras")
    return Card.read(path.parent), path


def load_described(card, file):
    """The Keras model, once the card is known to describe it, and the card for its weights.

    A card that says something else than the SavedModel beside it would become the truth with the export. Of a model
    that was trained on since, whose weights are no longer those of the SavedModel, the card may name labels of its own;
    and of a SavedModel that is damaged, the export is the remedy.
    """
    from keras_audio_transfer.extraction import SERVED, check_card, load_whole, own_card
    from keras_audio_transfer.extractor import load_model
    from keras_audio_transfer.training.fitting import weights_hash

    model = load_model(file)
    weights_sha256 = weights_hash(model)
    described = model, card.trained_on(weights_sha256)
    try:
        newest = latest_saved_model(file.parent)
        loaded = load_whole(newest, SERVED)
        own = own_card(newest, loaded)
    except InputError:
        return described
    if weights_sha256 in (card.weights_sha256 or weights_sha256, own and own.weights_sha256):
        check_card(newest, loaded)
    return described


def check_tflite(options, card, path):
    """Refuse what cannot end in a TensorFlow Lite model, before any work is done."""
    if options.version is not None:
        raise InputError("--version: belongs to a SavedModel; model.tflite has none; leave --version or --tflite out")
    if options.serving:
        raise InputError("--serving: TF Serving does not take a TensorFlow Lite model; leave --serving or --tflite out")
    if path.exists() and not options.overwrite:
        raise InputError(f"{path}: exists; pass --overwrite to replace it or another --output-dir")
    card.require_single_clips(options.model, "a TensorFlow Lite model of one clip does not see")


def write_tflite(options, card, file):
    path = options.output_dir / "model.tflite"
    check_tflite(options, card, path)
    config = card.audio.with_clip_seconds(options.clip_seconds)

    from keras_audio_transfer.export import tflite

    model, _ = load_described(card, file)
    with atomic_write(path) as partial:
        difference = tflite.write_tflite(partial, model, config)
    cli.show(f"run in a fresh process: largest difference {difference:.1e}")
    cli.show(f"written: {path} (waveform: {config.n_samples} samples at {config.sample_rate} Hz)")
    cli.say_licences(options, card)


def check_version(options, card, version_dir):
    """Refuse what cannot become a version of a model folder, before any work is done."""
    if options.clip_seconds is not None:
        raise InputError("--clip-seconds: belongs to --tflite; a SavedModel takes clips of any length; leave it out")
    if version_dir.exists() and not options.overwrite:
        raise InputError(f"{version_dir}: exists; pass --overwrite to replace it or another --version")
    refuse_older(options.output_dir, int(version_dir.name))
    if options.serving:
        tf_serving.check_installed()
        if not options.overwrite:
            tf_serving.check_kit(options.output_dir, card.audio)
        card.require_single_clips(options.model, "a server puts together anew")


def refuse_older(folder, number):
    """Refuse a version below one that is there: card.json and model.keras are the newest version's."""
    newest = max((int(path.name) for path in versions(folder)), default=0)
    if number < newest:
        raise InputError(
            f"--version: {number} is older than {newest}, which {folder} has; expected a newer one, or another folder"
        )


def write_version(options, card, file):
    number = options.version or 1
    version_dir = options.output_dir / str(number)
    check_version(options, card, version_dir)

    from keras_audio_transfer.export import saved_model

    model, card = load_described(card, file)
    with atomic_publish(options.output_dir, options.overwrite) as partial:
        difference = saved_model.write_model(partial, model, card, number)
        if options.serving:
            tf_serving.write_kit(partial, number, tf_serving.served_name(options.output_dir), card.audio)
        for name in ("history.csv", "training.png"):
            if (file.parent / name).is_file():
                shutil.copyfile(file.parent / name, partial / name)
    cli.show(f"reloaded in a fresh process: largest difference {difference:.1e}")
    cli.show(f"written: {version_dir}")
    kit = [name for name in tf_serving.KIT if (options.output_dir / name).exists()]
    if kit and not options.serving:
        left = f"version {number} has no warm-up requests, and {', '.join(kit)} are as they were"
        cli.say(options, f"{options.output_dir}: {left}; --serving writes them")
    cli.say_licences(options, card)


@cli.command(arguments)
def main(options):
    card, file = read_model(options.model)
    places.check_folder("--output-dir", options.output_dir)
    if not options.tflite:
        places.check_holds_model(options.output_dir)
    places.lock(options.output_dir)
    if options.tflite:
        write_tflite(options, card, file)
    else:
        write_version(options, card, file)
    return cli.DONE
