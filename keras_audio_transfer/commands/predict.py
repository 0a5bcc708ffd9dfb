"""Predict the class of audio files, with the SavedModel of a model folder that has scores.

    keras-audio-transfer predict saved_models/mine recordings/ voice.mp3
    keras-audio-transfer predict saved_models/mine recordings/ --top 3 --format csv --output classes.csv

Of each file come the --top labels, best first. A score is a probability where `train` trained the model; of a model of
`classify` it is none (its card.json says what it is). Neither Keras nor scikit-learn is needed.
Files that cannot be read are named on stderr, and listed in failed.csv beside --output; the exit code is then 1.
"""

import json
from pathlib import Path

from keras_audio_transfer.commands import cli, places
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import atomic_write, cell, write_failures
from keras_audio_transfer.model_folder import SCORES, Card, latest_saved_model

FORMATS = ("table", "csv", "json")


def arguments():
    parser = cli.parser(__doc__)
    cli.add_model_argument(parser, "model folder with scores")
    parser.add_argument("inputs", type=Path, nargs="+", metavar="FILE_OR_FOLDER", help="audio")
    parser.add_argument(
        "--format",
        metavar="NAME",
        choices=FORMATS,
        default="table",
        help="one of %(choices)s. table: file, label and score, for reading; csv: the same columns, and notes on the "
        "file; json: the model, what its scores are, and for each file its labels, scores and notes",
    )
    parser.add_argument("--top", type=cli.positive_int, default=1, metavar="N", help="labels a file")
    parser.add_argument("--output", type=Path, metavar="FILE", help="file to write (default: standard output)")
    cli.add_workers_argument(parser)
    return parser


def check(options, card):
    """What the scores are; refuses what cannot end well, before any work is done."""
    if options.output is not None:
        places.check_file("--output", options.output, [*options.inputs, *places.model_files(options.model_dir)])
    scores_are = card.meaning_of_scores(options.model_dir)
    n_labels = len(card.labels)
    if options.top > n_labels:
        raise InputError(f"--top: {options.top} is not allowed; expected 1 to {n_labels}, the model's labels")
    card.require_single_clips(options.model_dir, "a file alone does not have")
    places.check_audio(options.inputs)
    return scores_are


def scores_of(options, config):
    """The table of the scores of the files that can be read, and those that cannot."""
    from keras_audio_transfer.clip_inputs import clips_below

    saved_model, clips = latest_saved_model(options.model_dir), clips_below(options.inputs)
    if options.output is not None:
        places.check_beside_clips(options.output, clips)

    from keras_audio_transfer.extraction import SavedExtractor, extract, use_one_thread_a_clip

    use_one_thread_a_clip(options.workers)
    extractor = SavedExtractor(saved_model)
    if SCORES not in extractor.names:
        raise InputError(f"{options.model_dir}: its SavedModel returns no scores; expected a classifier")
    progress = cli.Phases(options, "predicting").bar("predicting", len(clips))
    return extract(extractor, [SCORES], clips, [], config, options.workers, progress=progress)


def best_labels(scores, names, top):
    """For each clip [(label, score)], best first; of equals the first."""
    order = (-scores).argsort(axis=1, kind="stable")[:, :top]
    return [
        [(names[column], round(float(values[column]), 6)) for column in columns]
        for values, columns in zip(scores, order, strict=True)
    ]


def as_text(options, files, labels, notes, scores_are):
    """The result in the format asked for; `labels`: for each file [(label, score)], best first."""
    if options.format == "json":
        clips = [
            {"file": file, "labels": [{"label": label, "score": score} for label, score in of_file], "notes": said}
            for file, of_file, said in zip(files, labels, notes, strict=True)
        ]
        content = {"model": str(options.model_dir), "scores_are": scores_are, "files": clips}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    import pandas as pd

    rows = zip(files, labels, notes, strict=True)
    rows = [(file, *pair, said) for file, of_file, said in rows for pair in of_file]
    table = pd.DataFrame(rows, columns=["file", "label", "score", "notes"])
    safe = cell if options.format == "csv" else cli.printable
    for name in ("file", "label"):
        table[name] = table[name].map(safe)
    if options.format == "csv":
        return table.to_csv(index=False, lineterminator="\n")
    return table.drop(columns="notes").to_string(index=False, float_format="{:.3f}".format) + "\n"


@cli.command(arguments)
def main(options):
    card = Card.read(options.model_dir)
    scores_are = check(options, card)
    result, failures = scores_of(options, card.audio)
    if len(result.clip_ids):
        labels = best_labels(result.layers[SCORES], card.labels, options.top)
        notes = [""] * len(labels) if result.notes is None else [*map(str, result.notes)]
        text = as_text(options, [*map(str, result.clip_ids)], labels, notes, scores_are)
        if options.output is None:
            cli.show(text.removesuffix("\n"))
        else:
            with atomic_write(options.output) as partial:
                partial.write_text(text, encoding="utf-8")
        cli.say_notes(options, [said.split("; ") if said else () for said in notes])
        cli.say(options, f"scores are {scores_are}")
        cli.say_licences(options, card)
    elif options.output is not None:
        cli.say_not_written(options.output)
    if options.output is not None:
        write_failures(options.output, failures)
    return cli.report_failures(failures, options.output)
