"""Suggest which clips to label next, or whose label to check, for a model that 'classify' wrote.

    keras-audio-transfer suggest saved_models/mine recordings --output to_label.csv
    keras-audio-transfer suggest saved_models/mine my_sounds --predictions --output to_check.csv

Of unlabelled audio come those clips first from which the model would learn most: in turn one that it is uncertain of
(the two best labels have nearly the same score), and one that is different from all those before it.

With --predictions the folder is the one that the model was made of. Of its clips come those whose label is probably
wrong, by what was predicted for them by SVMs that were fitted without them (predictions.csv in the model folder).

Listen to the clips, write their labels into the column correct_label, and give the table to 'classify --labelled'.
Files that cannot be read are listed in failed.csv beside the output, and the exit code is 1.
"""

import os
from pathlib import Path

import numpy as np

from keras_audio_transfer import datasets, remote
from keras_audio_transfer.commands import cli, places
from keras_audio_transfer.datasets.clip import read_number, read_table
from keras_audio_transfer.datasets.relabelling import FILE, LABEL
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import cell, write_failures, write_table
from keras_audio_transfer.model_folder import SCORES, Card, latest_saved_model

PROBABILITIES = "probabilities"  # an output of newer classifiers
OF_MODEL = ("true", "predicted")  # columns of predictions.csv that hold labels
COLUMNS = ["rank", FILE, "label", "score", "why", "notes", LABEL]


def arguments():
    parser = cli.parser(__doc__)
    wrote = "model folder that 'classify' wrote"  # what has a name of its own has no probe
    parser.add_argument("model_dir", type=places.model_folder, metavar="MODEL_DIR", help=wrote)
    text = "unlabelled audio; with --predictions the folder (or manifest) that the model was made of"
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=text)
    parser.add_argument("--predictions", action="store_true", help="clips whose label is probably wrong")
    parser.add_argument("--number", type=cli.positive_int, metavar="N", default=50, help="clips to suggest, at most")
    parser.add_argument("--output", type=Path, metavar="FILE", default=Path("suggestions.csv"), help="CSV to write")
    cli.add_workers_argument(parser)
    return parser


def check(options, card):
    """Refuse what cannot end well, before any work is done. What a person has filled in is never replaced."""
    places.check_audio([options.folder])
    places.check_file("--output", options.output, [options.folder, *places.model_files(options.model_dir)])
    places.lock(options.output, "file")
    if options.output.exists():
        raise InputError(f"--output: {options.output} exists, and may hold labels; name another file, or remove it")
    if not (card.probe or {}).get("layers"):
        raise InputError(f"{options.model_dir}: has no probe; expected a model folder that 'classify' wrote")
    if card.multi_label:
        raise InputError(f"{options.model_dir}: gives clips several labels; expected a model of one label a clip")


def to_label(options, card):
    """Rows of the table: unlabelled clips; and those that cannot be read."""
    from keras_audio_transfer.clip_inputs import clips_below

    clips = clips_below([options.folder])
    places.check_beside_clips(options.output, clips)

    from keras_audio_transfer.extraction import SavedExtractor, extract, use_one_thread_a_clip
    from keras_audio_transfer.probing import suggestions

    use_one_thread_a_clip(options.workers)
    extractor, layers = SavedExtractor(latest_saved_model(options.model_dir)), card.probe["layers"]
    output = PROBABILITIES if PROBABILITIES in extractor.names else SCORES
    bar = cli.Phases(options, "extracting").bar("extracting", len(clips))
    table, failures = extract(extractor, [*layers, output], clips, [], card.audio, options.workers, progress=bar)
    if not len(table):
        return [], failures
    paths = {clip.clip_id: clip.path for clip in clips}
    scores, features = table.layers[output], np.concatenate([table.layers[name] for name in layers], axis=1)
    notes = [""] * len(table) if table.notes is None else table.notes
    rows = [
        (paths[table.clip_ids[i]], card.labels[scores[i].argmax()], scores[i].max(), why, notes[i])
        for i, why in suggestions.to_label(scores, features, options.number)
    ]
    return rows, failures


def to_check(options, card):
    """Rows of the table: labelled clips whose label is probably wrong."""
    from keras_audio_transfer.probing import suggestions

    listed = options.model_dir / "predictions.csv"
    if not listed.is_file():
        raise InputError(f"{options.model_dir}: has no predictions.csv, as 'classify' writes it; make the model again")
    clips, rows = datasets.load_own(options.folder), read_table(listed, ["clip", *OF_MODEL], over_lines=True)
    places.check_beside_clips(options.output, clips)
    paths = {cell(clip.clip_id).strip(): clip.path for clip in clips}  # as `read_table` gives them
    there = [(where, row) for where, row in rows if row["clip"] in paths]
    if not there:
        raise InputError(f"{options.folder}: has no clip of {listed}; name the folder that the model was made of")
    if len(there) < len(rows):
        cli.say(
            options,
            f"left out: {len(rows) - len(there)} of {len(rows)} clips of {listed}, which are not in {options.folder}",
        )
    index = {cell(name): number for number, name in enumerate(card.labels)}
    true, predicted = (np.array([_known(index, row[which], where) for where, row in there]) for which in OF_MODEL)
    names, probabilities = [f"probability_{name}" for name in card.labels], None
    if {*names} <= there[0][1].keys():
        probabilities = np.array([[read_number(row[name], name, where) for name in names] for where, row in there])
    errors = suggestions.label_errors(true, predicted, probabilities)[: options.number]
    rows = [(there[i][1], f"labelled {card.labels[true[i]]}", meant, score) for i, meant, score in errors]
    return [
        (paths[row["clip"]], card.labels[meant], score, why, row.get("notes", "")) for row, why, meant, score in rows
    ]


def _known(index, text, where):
    if text not in index:
        raise InputError(f"{where}: {text!r} is no label of the model; they are of two models; make it again")
    return index[text]


def file_text(path, table):
    """A file as the table names it: from the table's folder on, where `datasets.relabelling` looks for it."""
    if (url := remote.url_of(path)) is not None:
        return url
    try:
        text = Path(os.path.relpath(path, table.parent)).as_posix()
    except ValueError:  # on another drive
        text = Path(os.path.abspath(path)).as_posix()
    text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return text if cell(text) == text.strip() else f"./{text}"  # a spreadsheet would run it, or lose its space


@cli.command(arguments)
def main(options):
    card = Card.read(options.model_dir)
    check(options, card)
    rows, failures = (to_check(options, card), []) if options.predictions else to_label(options, card)
    write_failures(options.output, failures)  # before the table, which a second run does not replace
    if rows or options.predictions:
        table = [
            [rank, file_text(path, options.output), label, "" if score is None else round(float(score), 6), *rest, ""]
            for rank, (path, label, score, *rest) in enumerate(rows, 1)
        ]
        write_table(options.output, COLUMNS, table)
        cli.show(f"written: {options.output}, {len(rows)} clips")
        fill_in = f"fill in its column {LABEL}; then: classify ... --labelled {options.output}"
        cli.say(options, fill_in if rows else "no label looks wrong")
    else:
        cli.say_not_written(options.output)
    return cli.report_failures(failures, options.output)
