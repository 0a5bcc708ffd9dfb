"""Compute the features of every layer for a data set, or for audio files and folders.

    python scripts/extract.py saved_models/convnet5.urbansound8k \\
        --dataset esc10 --data-dir data/ESC-50 --output esc10.npz
    python scripts/extract.py saved_models/convnet5.urbansound8k recordings/ voice.mp3 --output mine.npz

Files that cannot be read are listed in failed.csv beside the output, the rest is processed, and the exit code is 1.
"""

from pathlib import Path

from keras_audio_transfer import cli
from keras_audio_transfer.config import AudioConfig
from keras_audio_transfer.datasets import DATASETS, label_names, target_names
from keras_audio_transfer.datasets.clip import AUDIO_SUFFIXES, Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import write_failures
from keras_audio_transfer.model_folder import latest_saved_model, read_card


def arguments():
    parser = cli.parser(__doc__)
    parser.add_argument("model_dir", type=Path, metavar="MODEL_DIR", help="model folder")
    parser.add_argument("inputs", type=Path, nargs="*", metavar="FILE_OR_FOLDER", help="audio, instead of a data set")
    cli.add_dataset_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FEATURES.npz", help="features file to write")
    parser.add_argument("--layers", help="comma-separated names; all layers if not given")
    parser.add_argument("--clip-seconds", type=float, help="cut or fill clips to this; the model's length if not given")
    parser.add_argument("--workers", type=int, default=2, help="clips worked on at the same time")
    return parser


def clips_below(inputs: list[Path]) -> list[Clip]:
    """One unlabelled clip per audio file; folders are searched to any depth. Clip ids are the paths as given."""
    clips = []
    for path in inputs:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
            if not found:
                raise InputError(f"{path}: holds no audio; expected {', '.join(AUDIO_SUFFIXES)} files; check the path")
            clips += [Clip(p.as_posix(), p) for p in found]
        else:
            clips.append(Clip(path.as_posix(), path))
    return [*{clip.clip_id: clip for clip in clips}.values()]


def main():
    options = arguments().parse_args()
    if bool(options.inputs) == bool(options.dataset):
        raise InputError("inputs: expected either files and folders or --dataset, not both and not neither")
    if options.workers < 1:
        raise InputError(f"--workers: {options.workers} is not allowed; expected at least 1")
    if options.output.suffix != ".npz":
        raise InputError(f"--output: {options.output} does not end in .npz; name a features file")

    card = read_card(options.model_dir)
    config = AudioConfig.from_dict(card["audio"]).with_clip_seconds(options.clip_seconds)
    layers = options.layers.split(",") if options.layers else card["layer_names"]
    for name in layers:
        if name not in card["layer_names"]:
            raise InputError(f"--layers: {name!r} is unknown; this model has {', '.join(card['layer_names'])}")
    if options.dataset:
        clips = cli.load_clips(options)
        names = target_names(options.dataset) or label_names(clips, DATASETS[options.dataset].LABELS)
    else:
        clips, names = clips_below(options.inputs), []

    from keras_audio_transfer.extraction import SavedExtractor, extract, use_one_thread_a_clip

    batch_clips = card.get("batch_clips", 1)
    workers = options.workers if batch_clips == 1 else 1
    if batch_clips == 1:
        use_one_thread_a_clip(workers)
    extractor = SavedExtractor(latest_saved_model(options.model_dir))
    progress = cli.progress_bar(options, "extracting", len(clips))
    features, failures = extract(extractor, layers, clips, names, config, workers, batch_clips, progress)
    write_failures(options.output, failures)
    if len(features.clip_ids):
        features.save(options.output)
        print(f"written: {options.output} ({len(features.clip_ids)} clips, {len(layers)} layers)")
    return cli.report_failures(failures, options.output)


if __name__ == "__main__":
    cli.run(main)
