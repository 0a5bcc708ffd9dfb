"""Compute the features of every layer for a data set, or for audio files and folders.

    python scripts/extract.py saved_models/convnet5.urbansound8k \\
        --dataset esc10 --data-dir data/ESC-50 --output esc10.npz
    python scripts/extract.py saved_models/convnet5.urbansound8k recordings/ voice.mp3 --output mine.npz
    python scripts/extract.py saved_models/convnet5.urbansound8k night.flac --hop-seconds 1 --output night.npz

Files that cannot be read are listed in failed.csv beside the output, the rest is processed, and the exit code is 1.
"""

from pathlib import Path

from keras_audio_transfer.commands import cli
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.model_folder import Card, latest_saved_model
from keras_audio_transfer.sliding_windows import check_hop


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("model_dir", type=Path, metavar="MODEL_DIR", help="model folder")
    cli.add_input_arguments(parser)
    parser.add_argument("--layers", help="comma-separated names; all layers if not given")
    parser.add_argument("--clip-seconds", type=float, help="cut or fill clips to this; the model's length if not given")
    parser.add_argument(
        "--hop-seconds",
        type=float,
        help="features over time: of the windows of --clip-seconds around every multiple of this; a row a window",
    )
    return parser


@cli.command(arguments)
def main(options):
    cli.check_output(options)
    card = Card.read(options.model_dir)
    config = card.audio.with_clip_seconds(options.clip_seconds)
    layers = options.layers.split(",") if options.layers else card.layer_names
    for name in layers:
        if name not in card.layer_names:
            raise InputError(f"--layers: {name!r} is unknown; this model has {', '.join(card.layer_names)}")
    batch_clips = card.batch_clips
    if options.hop_seconds is not None:
        check_hop(options.hop_seconds)
        if batch_clips > 1:
            raise InputError(f"--hop-seconds: {options.model_dir} takes whole batches; import the calibrated version")
    clips, names = cli.load_inputs(options)

    from keras_audio_transfer.extraction import SavedExtractor, extract, extract_windows, use_one_thread_a_clip

    workers = options.workers if batch_clips == 1 else 1
    if batch_clips == 1:
        use_one_thread_a_clip(workers)
    extractor = SavedExtractor(latest_saved_model(options.model_dir))
    progress = cli.progress_bar(options, "extracting", len(clips))
    if options.hop_seconds is None:
        features, failures = extract(extractor, layers, clips, names, config, workers, batch_clips, progress)
    else:
        how = options.hop_seconds, workers, progress
        features, failures = extract_windows(extractor, layers, clips, names, config, *how)
    return cli.write_features(options, features, failures)
