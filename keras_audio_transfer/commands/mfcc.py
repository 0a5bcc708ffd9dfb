"""Compute the MFCC baseline of Choi et al. 2017 for a data set, or for audio files and folders.

    keras-audio-transfer mfcc --dataset esc10 --data-dir data/ESC-50 --output esc10.mfcc.npz

The features file has one layer, mfcc, of 120 numbers; `probe` takes it as --baseline, or alone.
"""

from keras_audio_transfer.commands import cli, features, places


def arguments():
    parser = cli.parser(__doc__)
    features.add_input_arguments(parser)
    return parser


@cli.command(arguments)
def main(options):
    features.check_inputs(options)
    places.check_audio(options.inputs)
    clips, names = features.load_inputs(options)
    places.check_beside_clips(options.output, clips)

    paths = [*options.inputs, options.data_dir]
    rows_of, settings = features.rows_of_floor(options, "mfcc", cli.cluster_of(options), paths)
    return features.write_features(options, clips, names, settings, rows_of)
