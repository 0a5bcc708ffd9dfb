"""Segments in recordings that are put together of known clips: how much of the time is right, and where they begin."""

import os
import random
import statistics
from pathlib import PurePath

import numpy as np

from keras_audio_transfer.answers import Answers, limits_of, segment_rule
from keras_audio_transfer.commands.benchmarks.measuring import in_a_process
from keras_audio_transfer.datasets import load
from keras_audio_transfer.datasets.clip import Clip, read_table
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.model_folder import Card, latest_saved_model
from keras_audio_transfer.segments import Segment

FOLD, RECORDINGS = 5, 4  # of ESC-10: its clips are divided among the recordings
RATE = 44100
HOP_SECONDS, CELL_SECONDS = 1.0, 0.05
WAYS = {"default": {}, "smooth_3": {"smooth": 3}}


def segments(options, model_dir):
    """The figures of a model folder, for each way."""
    return in_a_process(_figures, model_dir, options.esc_dir)


def heard_before(model_dir, esc_dir):
    """Files of the fold among those that `predictions.csv` in the model folder lists: the model has learnt from all."""
    if not (model_dir / "predictions.csv").is_file():
        raise InputError(f"{model_dir}: has no predictions.csv, as 'classify' writes it; make the model with that")
    own = {clip.path.name for clip in load("esc10", esc_dir) if clip.fold == FOLD}
    listed = read_table(model_dir / "predictions.csv", ["clip"])
    return sorted(own & {PurePath(row["clip"]).name for _, row in listed})


def _figures(model_dir, esc_dir):
    from keras_audio_transfer.extraction import SavedExtractor, extract_windows, use_one_thread_a_clip

    workers, card = os.cpu_count() or 1, Card.read(model_dir)
    use_one_thread_a_clip(workers)
    extractor = SavedExtractor(latest_saved_model(model_dir))
    clips = [clip for clip in load("esc10", esc_dir) if clip.fold == FOLD]
    random.Random(0).shuffle(clips)
    recordings, truths = zip(*(_recording(clips[n::RECORDINGS], n) for n in range(RECORDINGS)), strict=True)
    how = card.audio, HOP_SECONDS, workers
    table, _ = extract_windows(extractor, extractor.of_head, [*recordings], [], *how)
    answers = Answers.of(table.layers, card.labels)
    heard = answers.heard(answers.accepted(**limits_of(card)))
    figures = {}
    for way, settings in WAYS.items():
        rule, names = segment_rule(card, **settings), (clip.clip_id for clip in recordings)
        found = [rule.segments(heard[table.groups == name], HOP_SECONDS, card.labels) for name in names]
        figures[way] = compared(truths, found, card.labels)
    return figures


def _recording(clips, number):
    """The clips one behind the other; and where each is."""
    from keras_audio_transfer.audio.loading import load_waveform

    waveforms = [load_waveform(clip, RATE) for clip in clips]
    ends = np.cumsum([len(waveform) for waveform in waveforms]) / RATE
    starts = [0.0, *ends[:-1]]
    truth = [Segment(*of_clip, 1.0) for of_clip in zip(starts, ends, (c.labels[0] for c in clips), strict=True)]
    return Clip(f"recording {number}", None, synthesise=lambda: (np.concatenate(waveforms), RATE)), truth


def compared(truths, found, labels):
    """F1, precision and recall of time, in cells of 0.05 s of all labels together; and of beginnings.

    Args:
        truths, found: the segments of each recording, which the former fill.
        labels: of both.
    """
    from sklearn.metrics import precision_recall_fscore_support

    ends = [max(segment.end for segment in of_recording) for of_recording in truths]
    true, said = (
        np.concatenate([_inside(*of_recording, labels) for of_recording in zip(parts, ends, strict=True)])
        for parts in (truths, found)
    )
    precision, recall, f1, _ = precision_recall_fscore_support(true, said, average="micro", zero_division=0)
    errors = [
        min((abs(segment.start - clip.start) for segment in of_recording if _are_of_one(segment, clip)), default=None)
        for clips, of_recording in zip(truths, found, strict=True)
        for clip in clips
    ]
    of_found = [error for error in errors if error is not None]
    return {
        **{"f1": float(f1), "precision": float(precision), "recall": float(recall)},
        **{"clips": len(errors), "clips_found": len(of_found)},
        "onset_error_seconds_median": float(statistics.median(of_found)) if of_found else None,
    }


def _inside(segments, seconds, labels):
    """Which cells lie in a segment of which label: (cells, labels)."""
    cells = np.arange(0, seconds, CELL_SECONDS) + CELL_SECONDS / 2
    inside = np.zeros((len(cells), len(labels)), int)
    for start, end, label, _ in segments:
        inside[(cells >= start) & (cells < end), labels.index(label)] = 1
    return inside


def _are_of_one(segment, clip):
    return segment.label == clip.label and segment.start < clip.end and segment.end > clip.start
