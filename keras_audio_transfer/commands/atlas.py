"""Show what every layer of a network hears in a data set, on one HTML page with sounds.

    keras-audio-transfer atlas saved_models/yamnet --dataset esc10 --data-dir data/ESC-50 --output yamnet.html

The page has the clips that excite a unit most, to hear and to see: for each class the unit that tells it apart best,
and any other from a menu; a map of the clips in each layer, by class; how far each layer keeps the classes apart; and
which layers are alike. The sounds are in the page: mind their licence, which stands on it, before you publish it.
Files that cannot be read are listed in failed.csv beside the output, and the exit code is 1.
"""

from pathlib import Path

from keras_audio_transfer import datasets
from keras_audio_transfer.commands import cli, places
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.files import write_failures
from keras_audio_transfer.model_folder import Card, latest_saved_model


def arguments():
    parser = cli.parser(__doc__)
    cli.add_model_argument(parser, "model folder")
    cli.add_dataset_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.html", help="the page to write")
    parser.add_argument(
        "--clips",
        type=cli.count,
        metavar="N",
        help="clips to hear and see (default: as many as make a page of about 8 MB)",
    )
    cli.add_workers_argument(parser)
    return parser


def check(options):
    """Refuse what cannot end well, before any work is done; the model's card, and its SavedModel."""
    cli.require_dataset(options)
    places.check_file("--output", options.output, [options.data_dir, *places.model_files(options.model_dir)])
    places.lock(options.output, "file")
    card = Card.read(options.model_dir)
    card.require_single_clips(options.model_dir, "an atlas does not have")
    return card, latest_saved_model(options.model_dir)


@cli.command(arguments)
def main(options):
    card, saved_model = check(options)
    clips = cli.load_clips(options)
    places.check_beside_clips(options.output, clips)
    names = cli.label_names(clips)

    from keras_audio_transfer.atlas import page

    with cli.naming_dataset(options):
        page.labels_of(FeatureTable.of_clips({}, clips, names))

    from keras_audio_transfer import extraction

    extraction.use_one_thread_a_clip(options.workers)
    extractor = extraction.SavedExtractor(saved_model)
    cli.say_licences(options, card)
    phases = cli.Phases(options, "extracting", "drawing")
    how = card.layer_names, clips, names, card.audio, options.workers
    table, failures = extraction.extract(extractor, *how, progress=phases.bar("extracting", len(clips)))
    write_failures(options.output, failures)
    if not len(table):
        cli.say_not_written(options.output)
        return cli.report_failures(failures, options.output)
    phases.begin("drawing")
    data_set, name = datasets.DATASETS[clips[0].dataset], options.model_dir.resolve().name
    of_clips = cli.name_of_clips(options), table, clips, data_set.LICENSE, data_set.CITATION, failures
    page.write(options.output, page.Atlas(name, card, *of_clips, options.seed), options.clips, options.workers)
    cli.show(f"written: {options.output} ({len(table)} clips, {len(table.layers)} layers)")
    return cli.report_failures(failures, options.output)
