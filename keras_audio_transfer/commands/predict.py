"""Predict the class of audio files, with the SavedModel of a model folder that has scores.

    keras-audio-transfer predict saved_models/mine recordings/ voice.mp3
    keras-audio-transfer predict saved_models/mine recordings/ --top 3 --format csv --output classes.csv
    keras-audio-transfer predict saved_models/mine night.wav --hop-seconds 1 --format audacity --output labels

Of each file come the --top labels, best first. A score is a probability where `train` trained the model. A model of
`classify` gives probabilities beside its scores (its card.json says what these are), and `known`, which is near 0 for
what is unlike all that it has heard: below --known-at-least the label is "(none of these)", and so it is where the best
one has less than --probability-at-least. Where clips can have several labels (`classify` with a manifest), all come
whose probability reaches their threshold, or "(none of these)". Neither Keras nor scikit-learn is needed.

With --hop-seconds recordings of any length are heard in windows, and of each come segments: where which label is heard.
Their scores can be smoothed; a segment's are at least --lower-threshold throughout, and --threshold somewhere. Where
they are no probabilities, a segment is where one label has the highest.
Files that cannot be read are named on stderr, and listed in failed.csv beside --output; the exit code is then 1.
"""

import json
import os
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np

from keras_audio_transfer.answers import Answers, limits_of, segment_rule, thresholds_of
from keras_audio_transfer.commands import cli, places
from keras_audio_transfer.errors import InputError, readable
from keras_audio_transfer.files import atomic_write, beside, cell, write_failures
from keras_audio_transfer.model_folder import LONGEST, SCORES, Card, latest_saved_model
from keras_audio_transfer.segments import as_audacity, as_raven, seconds_inside

TRACKS = ("audacity", "raven")
FORMATS = ("table", "csv", "json", *TRACKS)
OF_PROBABILITIES = ("known_at_least", "probability_at_least")
OF_SEGMENTS = ("threshold", "lower_threshold", "smooth", "shortest_seconds")  # what says how windows become segments


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
        "file; json: the model, what its scores are, and for each file its labels, scores and notes; audacity, raven: "
        "a label track or a selection table for each recording, in the folder --output",
    )
    parser.add_argument(
        "--top", type=cli.positive_int, metavar="N", help="labels a file, at most (default: 1, or all of several)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="file to write (default: standard output)")
    parser.add_argument(
        "--hop-seconds", type=cli.hop, metavar="S", help="segments, from windows of the model's length so far apart"
    )
    parser.add_argument(
        "--threshold",
        type=cli.probability,
        metavar="P",
        help="probability that a segment has somewhere (default: 0.5, or each label's own threshold)",
    )
    parser.add_argument(
        "--lower-threshold", type=cli.probability, metavar="P", help="and throughout (default: half of --threshold)"
    )
    parser.add_argument(
        "--smooth",
        type=cli.positive_int,
        metavar="N",
        help="windows, an odd number, over which scores are averaged (default: 1)",
    )
    parser.add_argument(
        "--shortest-seconds", type=cli.not_negative, metavar="S", help="leave out shorter segments (default: 0)"
    )
    parser.add_argument(
        "--known-at-least",
        type=cli.fraction,
        metavar="P",
        help="of models with probabilities: what is less known has none of the labels (default: the model's, 0.02)",
    )
    parser.add_argument(
        "--probability-at-least",
        type=cli.fraction,
        metavar="P",
        help="and so has what has no label as probable as this (default: the model's, 0 if it says nothing)",
    )
    cli.add_workers_argument(parser)
    return parser


def check(options, card):
    """What the scores are; refuses what cannot end well, before any work is done."""
    check_segments(options)
    for name in OF_PROBABILITIES:
        if getattr(options, name) is not None and (card.multi_label or not card.has_probabilities):
            why = "has a threshold a label" if card.has_probabilities else "gives no probabilities beside its scores"
            raise InputError(f"{name}: {options.model_dir} {why}; leave it out")
    if options.format in TRACKS:
        if options.output is None:
            raise InputError(f"--format: {options.format} writes a file a recording; name their folder by --output")
        places.check_folder("--output", options.output)
    elif options.output is not None:
        places.check_file("--output", options.output, [*options.inputs, *places.model_files(options.model_dir)])
    if options.output is not None:
        places.lock(options.output, "folder" if options.format in TRACKS else "file")
    scores_are = card.meaning_of_scores(options.model_dir)
    limits_of(card)  # refuses such as are none
    n_labels = len(card.labels)
    if options.top is not None and options.top > n_labels:
        raise InputError(f"--top: {options.top} is not allowed; expected 1 to {n_labels}, the model's labels")
    card.require_single_clips(options.model_dir, "a file alone does not have")
    places.check_audio(options.inputs)
    return scores_are


def check_segments(options):
    """Refuse what is of segments without them, and the other way round."""
    if options.hop_seconds is not None:
        if options.top is not None:
            raise InputError("--top: is of whole files; leave it out, or --hop-seconds")
        return
    for name in OF_SEGMENTS:
        if getattr(options, name) is not None:
            raise InputError(f"{name}: is of segments; name a --hop-seconds, too")
    if options.format in TRACKS:
        raise InputError(f"--format: {options.format} is of segments; name a --hop-seconds, too")


def rule_of(options, card):
    """How scores become segments; None where files are labelled as a whole."""
    if options.hop_seconds is None:
        return None
    given = {name: getattr(options, name) for name in OF_SEGMENTS if getattr(options, name) is not None}
    if card.scores_are is not None and not card.has_probabilities:
        for name in ("threshold", "lower_threshold"):
            if name in given:
                raise InputError(
                    f"{name}: needs probabilities; this model's scores are {card.scores_are}; leave it out"
                )
    return segment_rule(card, **given)


def scores_of(options, card):
    """The table of the scores of the files that can be read, a row a window with --hop-seconds, and the others."""
    from keras_audio_transfer.clip_inputs import clips_below

    saved_model, clips = latest_saved_model(options.model_dir), clips_below(options.inputs)
    if options.output is not None:
        places.check_beside_clips(options.output, clips)
    if options.format in TRACKS:
        for place in track_places(options.output, [clip.clip_id for clip in clips]).values():
            if place.exists():
                raise InputError(f"--output: {place} exists, and may hold labels; name another folder, or remove it")

    from keras_audio_transfer import extraction

    extraction.use_one_thread_a_clip(options.workers)
    extractor = extraction.SavedExtractor(saved_model)
    if SCORES not in extractor.of_head:
        raise InputError(f"{options.model_dir}: its SavedModel returns no scores; expected a classifier")
    progress = cli.Phases(options, "predicting").bar("predicting", len(clips))
    how, workers = (extractor, extractor.of_head), options.workers
    if options.hop_seconds is not None:
        return extraction.extract_windows(*how, clips, [], card.audio, options.hop_seconds, workers, progress=progress)
    rows = [*progress(extraction.clip_rows(*how, card.audio, workers)(clips))]
    say_long(options, card, [row.clip for (row,) in rows if not isinstance(row.features, str)])
    return extraction.table_of(extractor, rows, [])


def say_long(options, card, clips):
    """Point to segments where a recording was cut, or is much longer than those that the model has learnt from."""
    from keras_audio_transfer.audio.loading import CUT
    from keras_audio_transfer.servers.demo_answer import long_seconds

    known = (card.training_data or {}).get(LONGEST)
    most = 2 * known if isinstance(known, int | float) else long_seconds(card.audio)
    cut = [note for clip in clips for note in clip.notes if note.startswith(CUT)]
    long = [clip.recorded.seconds for clip in clips if clip.recorded.seconds > most]
    if cut or long:
        how = cut[0] if cut else f"of up to {max(long):.3g} s, answered as one whole"
        many = f"{len(cut or long)} of {len(clips)}"
        cli.say(options, f"long recordings: {many}, {how}; --hop-seconds answers along time")


def track_places(folder, files):
    """File -> its track, named by its path below the folder of all in one word; where two are alike, with a hash."""
    paths = [Path(file).absolute() for file in files]  # some may be, and have nothing in common with the others
    root = os.path.commonpath([path.parent for path in paths])
    below = {file: path.relative_to(root) for file, path in zip(files, paths, strict=True)}
    names = {file: "_".join(path.with_suffix("").parts) for file, path in below.items()}
    alike = Counter(name.casefold() for name in names.values())
    for file, name in names.items():
        if alike[name.casefold()] > 1:
            names[file] = f"{name}.{sha256(os.fsencode(below[file])).hexdigest()[:8]}"
    return {file: beside(folder / name, ".txt") for file, name in names.items()}


def as_text(options, files, answers, labels, notes, scores_are):
    """The result in the format asked for; `labels`: for each file its rows of `answers.columns`, best first."""
    if options.format == "json":
        clips = [
            {"file": file, "labels": [as_object(answers.columns, row) for row in of_file], "notes": said}
            for file, of_file, said in zip(files, labels, notes, strict=True)
        ]
        return as_json(options, scores_are, files=clips)
    rows = zip(files, labels, notes, strict=True)
    rows = [(file, *row, said) for file, of_file, said in rows for row in of_file]
    return as_table(options, rows, ["file", *answers.columns, "notes"])


def as_object(columns, row):
    """A row as JSON has it: null for what none of the labels has."""
    return {name: None if value != value else value for name, value in zip(columns, row, strict=True)}


def as_json(options, scores_are, **content):
    content = {"model": readable(str(options.model_dir)), "scores_are": scores_are, **content}
    return json.dumps(content, indent=2, ensure_ascii=options.output is None) + "\n"  # a pipe may lack letters


def as_table(options, rows, columns):
    """CSV, or for reading, then without the notes."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=columns)
    safe = cell if options.format == "csv" else cli.printable
    for name in ("file", "label"):
        table[name] = table[name].map(safe)
    if options.format == "csv":
        return table.round(6).to_csv(index=False, lineterminator="\n")
    table = table.drop(columns="notes", errors="ignore")
    return table.to_string(index=False, float_format="{:.3f}".format, na_rep="-") + "\n"


def segments_of(options, card, table, rule):
    """File -> its segments and the number of its windows."""
    files, hop_seconds = table.groups, options.hop_seconds  # of each window; those of a recording are in a row
    starts = [0, *np.flatnonzero(files[1:] != files[:-1]) + 1]
    answers = Answers.of(table.layers, card.labels)
    scores = answers.heard(accepted(options, card, answers))
    parts = zip(starts, np.split(scores, starts[1:]), strict=True)
    return {
        str(files[start]): (rule.segments(scores, hop_seconds, card.labels), len(scores)) for start, scores in parts
    }


def segments_as_text(options, found, rule, scores_are, score):
    """All segments in the format asked for, but for tracks; `score` is what theirs are called."""
    columns = ["start", "end", "label", score]
    if options.format == "json":
        files = [
            {"file": file, "windows": n, "segments": [dict(zip(columns, segment, strict=True)) for segment in segments]}
            for file, (segments, n) in found.items()
        ]
        return as_json(options, scores_are, hop_seconds=options.hop_seconds, **vars(rule), files=files)
    rows = [(file, *segment) for file, (segments, _) in found.items() for segment in segments]
    if not rows and options.format == "table":
        return "no segments\n"
    return as_table(options, rows, ["file", *columns])


def write_tracks(options, found, failures, config):
    """A label track or a selection table a recording; those that failed have a part in the names of the others."""
    tracks = track_places(options.output, [*found, *(file for file, _ in failures)])
    options.output.mkdir(parents=True, exist_ok=True)
    for file, (segments, _) in found.items():
        text = as_audacity(segments) if options.format == "audacity" else as_raven(segments, config.mel_f_max)
        with atomic_write(tracks[file]) as partial:
            partial.write_text(text, encoding="utf-8")
    cli.show(f"written: {options.output}, {len(found)} files")


def show_text(options, text):
    if options.output is None:
        cli.show(text.removesuffix("\n"))
    else:
        with atomic_write(options.output) as partial:
            partial.write_text(text, encoding="utf-8")


def accepted(options, card, answers):
    """Which files, or windows, are of one of the labels."""
    given = {name: getattr(options, name) for name in OF_PROBABILITIES if getattr(options, name) is not None}
    return answers.accepted(**limits_of(card) | given)


def show_files(options, card, result, scores_are):
    """The labels of whole files."""
    answers = Answers.of(result.layers, card.labels)
    if (thresholds := thresholds_of(card)) is None:
        labels = answers.rows(options.top or 1, accepted(options, card, answers))
    else:
        labels = answers.above(thresholds, options.top)
    notes = [""] * len(labels) if result.notes is None else [*map(str, result.notes)]
    show_text(options, as_text(options, [*map(str, result.clip_ids)], answers, labels, notes, scores_are))
    cli.say_notes(options, [said.split("; ") if said else () for said in notes])


def show_segments(options, card, result, failures, rule, scores_are, seconds):
    """The segments of recordings, and how much was heard."""
    found = segments_of(options, card, result, rule)
    if options.format in TRACKS:
        write_tracks(options, found, failures, card.audio)
    else:
        score = "probability" if card.has_probabilities else "score"
        show_text(options, segments_as_text(options, found, rule, scores_are, score))
    n_windows, n_segments = len(result.clip_ids), sum(len(segments) for segments, _ in found.values())
    inside = sum(seconds_inside(segments) for segments, _ in found.values())
    heard = n_windows * options.hop_seconds
    windows = f"{n_windows} windows of {card.audio.clip_seconds:.3g} s"
    said = f"{windows}; segments: {n_segments}, {inside / heard:.0%} of the time"
    cli.say(options, f"{said}; {heard / 3600 / (seconds / 60):.2g} hours of sound a minute")


@cli.command(arguments)
def main(options):
    card = Card.read(options.model_dir)
    scores_are = check(options, card)
    rule, began = rule_of(options, card), time.monotonic()
    result, failures = scores_of(options, card)
    if len(result.clip_ids):
        if rule is None:
            show_files(options, card, result, scores_are)
        else:
            show_segments(options, card, result, failures, rule, scores_are, time.monotonic() - began)
        if rule is None or not card.has_probabilities:  # segments show these
            cli.say(options, f"scores are {scores_are}")
        cli.say_licences(options, card)
    elif options.output is not None:
        cli.say_not_written(options.output)
    if options.output is not None:
        write_failures(options.output, failures)
    return cli.report_failures(failures, options.output)
