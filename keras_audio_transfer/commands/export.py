"""Export a model to a model folder, or add a version of its SavedModel to one.

    python scripts/export.py saved_models/convnet5.urbansound8k --output-dir served/urban --version 2
    python scripts/export.py fine_tuned.keras --output-dir served/mine
    python scripts/export.py saved_models/convnet5.urbansound8k --output-dir served/urban --version 3 --serving
    python scripts/export.py saved_models/convnet5.urbansound8k --output-dir phone --tflite --clip-seconds 1

What is written is loaded again in a process without Keras, kapre and this package, compared with the model on random
clips, and only then appears under its name: a server that watches the folder sees all of a version or nothing of it.
A model that was trained on since card.json was written keeps its front end and labels: put the file beside the card,
and its own labels there. The card's training data, scores and settings then no longer hold and are left out.
With --tflite only model.tflite is written, the TensorFlow Lite twin of the model for one clip of a fixed length.
"""

import shutil
from pathlib import Path

from keras_audio_transfer.commands import cli
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export import tf_serving
from keras_audio_transfer.files import atomic_publish, atomic_write
from keras_audio_transfer.model_folder import Card, versions


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder, or a model.keras in or beside one")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="model folder to write")
    parser.add_argument("--version", type=int, default=1, metavar="N", help="TF Serving's version, a positive integer")
    parser.add_argument("--overwrite", action="store_true", help="replace the version if it is there")
    parser.add_argument(
        "--serving", action="store_true", help="add warm-up requests, configurations and a client for TF Serving"
    )
    parser.add_argument("--tflite", action="store_true", help="write model.tflite alone, for one clip at a time")
    parser.add_argument(
        "--clip-seconds", type=float, metavar="S", help="length of that clip, instead of the one trained on"
    )
    return parser


def refuse_older(folder, number):
    """Refuse a version below one that is there: card.json and model.keras are the newest version's."""
    newest = max((int(path.name) for path in versions(folder)), default=0)
    if number < newest:
        raise InputError(
            f"--version: {number} is older than {newest}, which {folder} has; expected a newer one, or another folder"
        )


def write_tflite(options, keras_file, card):
    if options.serving:
        raise InputError("--serving: TF Serving does not take a TensorFlow Lite model; leave --serving or --tflite out")
    path = options.output_dir / "model.tflite"
    if path.exists() and not options.overwrite:
        raise InputError(f"{path}: exists; pass --overwrite to replace it or another --output-dir")
    card.require_single_clips(keras_file.parent, "a TensorFlow Lite model of one clip does not see")
    config = card.audio.with_clip_seconds(options.clip_seconds)

    from keras_audio_transfer.export import tflite
    from keras_audio_transfer.extractor import load_model

    with atomic_write(path) as partial:
        difference = tflite.write_tflite(partial, load_model(keras_file), config)
    print(f"run in a fresh process: largest difference {difference:.1e}")
    print(f"written: {path} (waveform: {config.n_samples} samples at {config.sample_rate} Hz)")
    return cli.DONE


@cli.command(arguments)
def main(options):
    keras_file = options.model / "model.keras" if options.model.is_dir() else options.model
    if not keras_file.is_file():
        raise InputError(f"{keras_file}: does not exist; expected a model folder or a model.keras")
    card = Card.read(keras_file.parent)
    if options.tflite:
        return write_tflite(options, keras_file, card)
    if options.clip_seconds is not None:
        raise InputError("--clip-seconds: belongs to --tflite; a SavedModel takes clips of any length; leave it out")
    version_dir = options.output_dir / str(options.version)
    if version_dir.exists() and not options.overwrite:
        raise InputError(f"{version_dir}: exists; pass --overwrite to replace it or another --version")
    refuse_older(options.output_dir, options.version)
    if options.serving:
        tf_serving.check_installed()
        card.require_single_clips(keras_file.parent, "a server puts together anew")

    from keras_audio_transfer.export import saved_model
    from keras_audio_transfer.extractor import load_model
    from keras_audio_transfer.training import weights_hash

    model = load_model(keras_file)
    card = card.trained_on(weights_hash(model))
    with atomic_publish(options.output_dir, options.overwrite) as partial:
        difference = saved_model.write_model(partial, model, card, options.version)
        if options.serving:
            tf_serving.write_kit(partial, options.version, tf_serving.served_name(options.output_dir), card.audio)
        for name in ("history.csv", "training.png"):
            if (keras_file.parent / name).is_file():
                shutil.copyfile(keras_file.parent / name, partial / name)
    print(f"reloaded in a fresh process: largest difference {difference:.1e}")
    print(f"written: {version_dir}")
    return cli.DONE
