"""Compute the features of every layer for a data set, or for audio files and folders.

    keras-audio-transfer extract saved_models/convnet5.urbansound8k \\
        --dataset esc10 --data-dir data/ESC-50 --output esc10.npz
    keras-audio-transfer extract saved_models/convnet5.urbansound8k recordings/ voice.mp3 --output mine.npz
    keras-audio-transfer extract saved_models/convnet5.urbansound8k night.flac --hop-seconds 1 --output night.npz
    keras-audio-transfer extract saved_models/convnet5.urbansound8k archive --output archive.parquet

Files that cannot be read are listed in failed.csv beside the output, the rest is processed, and the exit code is 1.
Where a run was killed, the same command goes on.
"""

from keras_audio_transfer.commands import cli, features, places
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.layer_names import selected_layers
from keras_audio_transfer.model_folder import Card, latest_saved_model


def arguments():
    parser = cli.parser(__doc__)
    cli.add_model_argument(parser, "model folder")
    features.add_input_arguments(parser)
    parser.add_argument("--layers", metavar="NAME,...", help="comma-separated names (default: all layers)")
    parser.add_argument(
        "--clip-seconds",
        type=cli.seconds,
        metavar="S",
        help="crop or pad clips to this (default: whole clips, those shorter than the model's length padded to it)",
    )
    parser.add_argument(
        "--hop-seconds",
        type=cli.hop,
        metavar="S",
        help="features over time: of the windows of --clip-seconds around every multiple of this, a row a window "
        "(default: a row a clip)",
    )
    return parser


@cli.command(arguments)
def main(options):
    features.check_inputs(options)
    card = Card.read(options.model_dir)
    saved_model = latest_saved_model(options.model_dir)
    config = card.audio.with_clip_seconds(options.clip_seconds)
    layers = selected_layers(None if options.layers is None else options.layers.split(","), card.layer_names)
    batch_clips = card.batch_clips
    if options.hop_seconds is not None and batch_clips > 1:
        raise InputError(f"--hop-seconds: {options.model_dir} takes whole batches; import the calibrated version")
    places.check_audio(options.inputs)
    clips, names = features.load_inputs(options)
    places.check_beside_clips(options.output, clips)

    cluster = cli.cluster_of(options)

    from keras_audio_transfer import extraction

    if batch_clips == 1:
        extraction.use_one_thread_a_clip(options.workers)
    how = layers, config, cluster, [*options.inputs, options.data_dir], options.hop_seconds, batch_clips
    rows_of, settings = features.rows_of_model(options, saved_model, *how)
    cli.say_licences(options, card)
    return features.write_features(options, clips, names, settings, rows_of, batch_clips)
