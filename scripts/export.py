"""Export a model to a model folder, or add a version of its SavedModel to one.

    python scripts/export.py saved_models/convnet5.urbansound8k --output-dir served/urban --version 2
    python scripts/export.py fine_tuned.keras --output-dir served/mine
    python scripts/export.py saved_models/convnet5.urbansound8k --output-dir served/urban --version 3 --serving

What is written is loaded again in a process without Keras, kapre and this package, compared with the model on random
clips, and only then appears under its name: a server that watches the folder sees all of a version or nothing of it.
"""

import shutil
from pathlib import Path

from keras_audio_transfer import cli, serving_kit
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import added_whole
from keras_audio_transfer.model_folder import read_card, require_single_clips


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder, or a model.keras in or beside one")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="model folder to write")
    parser.add_argument("--version", type=int, default=1, metavar="N", help="TF Serving's version, a positive integer")
    parser.add_argument("--overwrite", action="store_true", help="replace the version if it is there")
    parser.add_argument(
        "--serving", action="store_true", help="add warm-up requests, configurations and a client for TF Serving"
    )
    return parser


def main():
    options = arguments().parse_args()
    keras_file = options.model / "model.keras" if options.model.is_dir() else options.model
    if not keras_file.is_file():
        raise InputError(f"{keras_file}: does not exist; expected a model folder or a model.keras")
    card = read_card(keras_file.parent)
    version_dir = options.output_dir / str(options.version)
    if version_dir.exists() and not options.overwrite:
        raise InputError(f"{version_dir}: exists; pass --overwrite to replace it or another --version")
    if options.serving:
        serving_kit.check_installed()
        require_single_clips(keras_file.parent, card, "a server puts together anew")

    import keras

    from keras_audio_transfer import export

    try:
        model = keras.models.load_model(keras_file, compile=False)
    except (ValueError, TypeError, OSError) as error:
        raise InputError(f"{keras_file}: cannot be loaded ({str(error).splitlines()[0]}); save it anew") from error
    config = AudioConfig.from_dict(card["audio"])
    with added_whole(options.output_dir, options.overwrite) as partial:
        difference = export.write_model(partial, model, config, card, options.version)
        if options.serving:
            serving_kit.write_kit(partial, options.version, serving_kit.served_name(options.output_dir), config)
        for name in ("history.csv", "training.png"):
            if (keras_file.parent / name).is_file():
                shutil.copyfile(keras_file.parent / name, partial / name)
    print(f"reloaded in a fresh process: largest difference {difference:.1e}")
    print(f"written: {version_dir}")
    return cli.DONE


if __name__ == "__main__":
    cli.run(main)
