"""Turn a published network into a model folder, with every layer open.

    keras-audio-transfer import yamnet --from yamnet.tflite
    keras-audio-transfer import MSD_musicnn --download --output-dir saved_models/musicnn
    keras-audio-transfer import speech_embedding --random --output-dir saved_models/random

'keras-audio-transfer models' lists what there is, and under which licence. The front end belongs to the weights. The
published file is checked against its SHA-256 where that is known; --random draws weights by --seed instead, for the
baseline. A clip of any length is heard whole: its maps are those of its patches, one after the other.
"""

from pathlib import Path

from keras_audio_transfer.commands import cli, places
from keras_audio_transfer.commands.progress import of_download
from keras_audio_transfer.config import POOLINGS
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write, beside, scratch_folder
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.pretrained.catalogue import CATALOGUE, check, download, find
from keras_audio_transfer.pretrained.imported import models_dir


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("name", metavar="NAME", choices=[*CATALOGUE], help="one of %(choices)s")
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--from", dest="file", type=places.path, metavar="FILE", help="the published file")
    weights.add_argument("--download", action="store_true", help="fetch the published file, and keep the weights only")
    weights.add_argument("--random", action="store_true", help="draw random weights by --seed: the baseline")
    parser.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="model folder to write (default: one of the user's own, where NAME alone stands for it from then on)",
    )
    parser.add_argument("--pooling", metavar="NAME", choices=POOLINGS, default="mean", help="one of %(choices)s")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model folder")
    return parser


def check_file(options):
    """Refuse a file that is not there, before TensorFlow is imported."""
    if options.file is not None and not (options.file.is_file() or options.file.is_dir()):
        what = "is no file" if options.file.exists() else "does not exist"
        raise InputError(f"{options.file}: {what}; expected the published {CATALOGUE[options.name].file}")


def read_weights(options, source):
    """The weights, and their file's name and SHA-256; neither for random ones."""
    if options.random:
        return None, None
    if options.file is not None:
        path = find(options.name, options.file)
        file = check(options.name, path)  # before anything of it is read
        return source.read(path), file
    with scratch_folder(options.output_dir) as folder:
        part = beside(options.output_dir, ".part")
        path, file = download(options.name, folder, of_download(options, options.name), part)
        return source.read(path), file


@cli.command(arguments)
def main(options):
    if options.output_dir is None:
        options.output_dir = models_dir() / (f"{options.name}.random" if options.random else options.name)
    places.check_model_folder(options)
    check_file(options)
    entry = CATALOGUE[options.name]

    import keras

    from keras_audio_transfer.export import saved_model
    from keras_audio_transfer.pretrained import source as sources

    keras.utils.set_random_seed(options.seed)
    source = sources.source(options.name)
    weights, file = read_weights(options, source)
    model = sources.build(source, weights, options.pooling)
    trained_on = {
        "dataset": entry.trained_on,
        "licence": f"{entry.licence} (of the weights)",
        "citation": entry.citation,
    }
    card = Card(
        source.config,
        network=options.name,
        network_citation=entry.citation,
        pooling=options.pooling,
        labels=source.labels,
        multi_label=bool(source.labels),
        training_data={"dataset": "none: random weights"} if options.random else trained_on,
        weights="random" if file is None else f"{options.name}: {file[0]}, SHA-256 {file[1]}",
        seed=options.seed,
    )
    with atomic_write(options.output_dir) as partial:
        partial.mkdir()
        difference = saved_model.write_model(partial, model, card)
    if file and not entry.sha256:
        cli.show(f"read: {options.file}, SHA-256 {file[1]}; no public source states what it should be")
    if not options.random:
        commercial = "allows" if entry.commercial_use else "does not allow"
        cli.show(f"licence: {entry.licence}, which {commercial} commercial use; cite {entry.citation}")
    cli.show(f"reloaded in a fresh process: largest difference {difference:.1e}")
    cli.show(f"written: {options.output_dir}")
    return cli.DONE
