"""Which clips to label next, whose label looks wrong, and how labels that were filled in come back."""

import csv
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
import tensorflow as tf
from conftest import run_main
from scipy.spatial.distance import cdist
from sounds import CONFIG, noise

from keras_audio_transfer import datasets, extraction
from keras_audio_transfer.commands import classify, cli, own_sounds, suggest
from keras_audio_transfer.datasets import Clip
from keras_audio_transfer.datasets.relabelling import relabelled
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.files import only_writer
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.probing.suggestions import label_errors, to_label

LABELS = ["=loud", "quiet"]


def test_its_help_names_no_model_that_it_refuses():
    text = " ".join(suggest.arguments().format_help().split())
    assert "MODEL_DIR model folder that 'classify' wrote FOLDER" in text


# ---- which clips


def test_clips_to_label_are_uncertain_and_far_from_one_another():
    rng = np.random.default_rng(0)
    scores, features = rng.dirichlet([1, 1, 1], 80), rng.normal(0, [1, 100], (80, 2))
    found = to_label(scores, features, at_most=20)
    margins = np.sort(scores)[:, -1] - np.sort(scores)[:, -2]
    assert found[0] == (margins.argmin(), "uncertain")
    assert [why for _, why in found] == ["uncertain", "different"] * 10
    uncertain = {*np.argsort(margins)[:20]}
    distances = cdist(*[(features - features.mean(axis=0)) / features.std(axis=0)] * 2)
    taken = [found[0][0]]
    for clip, why in found[1:]:
        left = [i for i in range(80) if (i in uncertain) == (why == "uncertain") and i not in taken]
        assert clip == max(left, key=lambda i: distances[i, taken].min())
        taken.append(clip)


def test_all_clips_are_taken_once_and_copies_last():
    features = np.array([[0.0], [1.0], [2.0], [5.0], [5.0], [5.0]])
    scores = np.array([[0.9, 0.1]] * 5 + [[0.5, 0.5]])
    found = [clip for clip, _ in to_label(scores, features, at_most=99)]
    assert sorted(found) == [0, 1, 2, 3, 4, 5]
    assert found[0] == 5
    assert {*found[-2:]} == {3, 4}
    assert to_label(scores[:1], features[:1], at_most=5) == [(0, "uncertain")]


def test_confident_learning_by_hand():
    probabilities = np.array(
        [
            *([0.9, 0.1, 0.0], [0.7, 0.2, 0.1], [0.2, 0.75, 0.05]),  # labelled 0, whose threshold is 0.6
            *([0.3, 0.6, 0.1], [0.05, 0.9, 0.05], [0.8, 0.15, 0.05]),  # labelled 1: 0.55
            *([0.35, 0.25, 0.4], [0.5, 0.1, 0.4]),  # labelled 2: 0.4; of the last 0 is more probable, but not confident
        ]
    )
    true = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    assert label_errors(true, true, probabilities) == [(5, 0, 0.8), (2, 1, 0.75)]


def test_a_label_without_clips_is_meant_by_none():
    probabilities = np.array([[0.4, 0.1, 0.5], [0.1, 0.4, 0.5]])
    assert label_errors(np.array([0, 1]), np.array([0, 1]), probabilities) == []


def test_without_probabilities_all_that_disagree():
    assert label_errors(np.array([0, 1, 1]), np.array([1, 1, 0]), None) == [(0, 1, None), (2, 0, None)]


# ---- the command


@pytest.fixture(autouse=True)
def any_threads(monkeypatch):
    monkeypatch.setattr(
        extraction, "use_one_thread_a_clip", lambda workers: None
    )  # only before TensorFlow's first work


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, CONFIG.sample_rate)


def write_model(folder, probabilities):
    """A classifier by loudness; its probabilities, where it has some, say the opposite of its scores."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="waveform")], autograph=False)
    def serve(waveform):
        loudness = tf.reduce_mean(tf.abs(waveform), axis=1, keepdims=True)
        scores = tf.concat([loudness, 0.2 - loudness], axis=1)
        return {"layer1": loudness, "scores": scores} | ({"probabilities": scores[:, ::-1]} if probabilities else {})

    tf.saved_model.save(tf.Module(), str(folder / "1"), signatures={"serving_default": serve})
    probe = {"layers": ["layer1"], "kernel": "linear", "C": 1.0}
    Card(CONFIG, layer_sizes={"layer1": 1}, labels=LABELS, scores_are="votes", probe=probe).write(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Not to be written to."""
    return write_model(tmp_path_factory.mktemp("model") / "mine", probabilities=False)


@pytest.fixture
def recordings(tmp_path):
    """Eight recordings, from quiet to loud, one as a spreadsheet would run it, and one that is none."""
    for number in range(7):
        write(tmp_path / "recordings" / f"{number}.wav", noise(500, seed=number) * 0.4 * number)
    write(tmp_path / "recordings" / "=8.wav", noise(500) * 3)
    (tmp_path / "recordings" / "bad.wav").write_text("not audio")
    return tmp_path / "recordings"


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file)]


def test_of_two_at_once_one_is_refused(model, recordings):
    output = recordings / "to_label.csv"
    with only_writer(output), pytest.raises(InputError, match=r"to_label\.csv: another run writes there; wait"):
        run_main("suggest", model, recordings, "--output", output)
    assert not output.exists()


def test_unlabelled_audio(model, recordings, capsys):
    output = recordings / "to_label.csv"
    assert run_main("suggest", model, recordings, "--output", output, "--number", 5) == cli.SOME_FAILED
    rows = rows_of(output)
    assert [*rows[0]] == ["rank", "file", "label", "score", "why", "notes", "correct_label"]
    assert [row["rank"] for row in rows] == [*"12345"]
    assert (rows[0]["file"], rows[0]["why"]) == ("3.wav", "uncertain")  # whose loudness is 0.096
    assert (rows[1]["file"], rows[1]["why"], rows[1]["label"]) == ("./=8.wav", "different", "'=loud")
    assert float(rows[1]["score"]) == pytest.approx(np.abs(soundfile.read(recordings / "=8.wav")[0]).mean(), abs=1e-6)
    assert {row["correct_label"] for row in rows} == {""}
    assert [row["clip"] for row in rows_of(recordings / "failed.csv")] == [f"{recordings / 'bad.wav'}"]
    assert f"written: {output}, 5 clips" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"csv exists, and may hold labels; name another file, or remove it$"):
        run_main("suggest", model, recordings, "--output", output)


def test_probabilities_count_where_there_are_some(recordings, tmp_path):
    folder = write_model(tmp_path / "mine", probabilities=True)
    run_main("suggest", folder, recordings, "--output", tmp_path / "a.csv", "--number", 2)
    assert [row["label"] for row in rows_of(tmp_path / "a.csv")][1] == "quiet"
    assert rows_of(tmp_path / "a.csv")[1]["file"] == "recordings/=8.wav"


def test_nothing_is_written_where_nothing_can_be_read(model, tmp_path, capsys):
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "bad.wav").write_text("not audio")
    output = tmp_path / "a.csv"
    assert run_main("suggest", model, tmp_path / "recordings", "--output", output) == cli.SOME_FAILED
    assert not output.exists()
    assert f"not written: {output} (no clip could be read)" in capsys.readouterr().err


# ---- labels that are probably wrong


@pytest.fixture
def labelled(model, tmp_path):
    """A model folder with predictions, and the folder of classes that it was made of."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "card.json").write_bytes((model / "card.json").read_bytes())
    rows = []
    for number in range(12):
        label = LABELS[number % 2]
        write(tmp_path / "sounds" / label / f"{number}.wav", noise(500, seed=number))
        rows.append((f"'{label}/{number}.wav" if label == "=loud" else f"{label}/{number}.wav", label, label))
    table = pd.DataFrame(rows, columns=["clip", "true", "predicted"])
    table["true"] = table["predicted"] = table["true"].replace("=loud", "'=loud")
    table.loc[[3, 8], "predicted"] = ["'=loud", "quiet"]
    table["notes"] = ["", "clipped"] * 6
    table.to_csv(folder / "predictions.csv", index=False)
    return folder, tmp_path / "sounds"


def test_labels_to_check(labelled, tmp_path):
    folder, sounds = labelled
    assert run_main("suggest", folder, sounds, "--predictions", "--output", tmp_path / "a.csv") == cli.DONE
    keys = ("file", "label", "score", "why", "notes", "correct_label")
    assert [tuple(row[key] for key in keys) for row in rows_of(tmp_path / "a.csv")] == [
        ("sounds/quiet/3.wav", "'=loud", "", "labelled quiet", "clipped", ""),
        ("sounds/=loud/8.wav", "quiet", "", "labelled =loud", "", ""),
    ]


def test_clips_that_are_gone_are_said_to_be_left_out(labelled, tmp_path, capsys):
    folder, sounds = labelled
    (sounds / "quiet" / "3.wav").unlink()
    run_main("suggest", folder, sounds, "--predictions", "--output", tmp_path / "a.csv")
    assert [row["file"] for row in rows_of(tmp_path / "a.csv")] == ["sounds/=loud/8.wav"]
    assert capsys.readouterr().err.startswith(
        f"left out: 1 of 12 clips of {folder / 'predictions.csv'}, which are not in "
    )


def test_where_no_label_looks_wrong_that_is_said(labelled, tmp_path, capsys):
    folder, sounds = labelled
    table = pd.read_csv(folder / "predictions.csv")
    table.assign(predicted=table["true"]).to_csv(folder / "predictions.csv", index=False)
    run_main("suggest", folder, sounds, "--predictions", "--output", tmp_path / "a.csv")
    assert capsys.readouterr().err == "no label looks wrong\n"
    assert len(pd.read_csv(tmp_path / "a.csv")) == 0


def test_a_folder_whose_name_begins_with_a_space(labelled, tmp_path):
    folder, sounds = labelled
    (sounds / "quiet").rename(sounds / " quiet")
    listed = folder / "predictions.csv"
    listed.write_text(listed.read_text().replace("quiet/", " quiet/"))
    run_main("suggest", folder, sounds, "--predictions", "--output", tmp_path / "a.csv")
    assert [row["file"] for row in rows_of(tmp_path / "a.csv")] == ["sounds/ quiet/3.wav", "sounds/=loud/8.wav"]


def test_with_probabilities_the_surest_mistake_comes_first(labelled, tmp_path):
    folder, sounds = labelled
    table = pd.read_csv(folder / "predictions.csv")
    loud = np.where(np.arange(12) % 2 == 0, 0.7, 0.2)
    loud[[3, 8]] = [0.8, 0.1]
    loud[5] = 0.55  # predicted wrong, but less sure than a loud one on average
    table.assign(**{"probability_=loud": loud, "probability_quiet": 1 - loud}).to_csv(folder / "predictions.csv")
    run_main("suggest", folder, sounds, "--predictions", "--output", tmp_path / "a.csv", "--number", 5)
    rows = rows_of(tmp_path / "a.csv")
    assert [(row["file"], row["score"]) for row in rows] == [
        ("sounds/=loud/8.wav", "0.9"),
        ("sounds/quiet/3.wav", "0.8"),
    ]


# ---- and back


def test_filled_in_labels_come_back(labelled, recordings, tmp_path):
    _, sounds = labelled
    rows = [
        "file,label,correct_label",
        "sounds/quiet/3.wav,x,'=loud",
        "sounds/=loud/8.wav,x,",
        "recordings/3.wav,x, new ",
    ]
    (tmp_path / "a.csv").write_text("\n".join([*rows, f"{recordings / '4.wav'},x,quiet"]))
    clips = datasets.load_own(sounds)
    result = relabelled(clips, tmp_path / "a.csv")
    assert len(result) == 14
    by_path = {clip.path: clip for clip in result}
    for clip in clips:
        other = ("=loud",) if clip.clip_id == "quiet/3.wav" else clip.labels
        assert by_path[clip.path] == replace(clip, labels=other)
    assert [clip.clip_id for clip in result[12:]] == ["recordings/3.wav", f"{recordings / '4.wav'}"]
    new = [(clip.path, clip.labels, clip.split, clip.dataset) for clip in result[12:]]
    assert new == [(recordings / "3.wav", ("new",), "", "folder"), (recordings / "4.wav", ("quiet",), "", "folder")]
    assert [clip.split for clip in relabelled([replace(clips[0], split="test")], tmp_path / "a.csv")] == ["test"] + [
        "train"
    ] * 3
    assert relabelled(clips, None) == clips


def test_a_name_over_two_lines_goes_out_and_comes_back(labelled, tmp_path):
    folder, sounds = labelled
    clip = (sounds / "quiet" / "3.wav").rename(sounds / "quiet" / "3\n.wav")
    listed = folder / "predictions.csv"
    listed.write_text(listed.read_text().replace("quiet/3.wav", '"quiet/3\n.wav"'))
    run_main("suggest", folder, sounds, "--predictions", "--output", tmp_path / "a.csv")
    table = pd.read_csv(tmp_path / "a.csv", dtype=str)
    assert table["file"][0] == "sounds/quiet/3\n.wav"
    table.assign(correct_label=["new", ""]).to_csv(tmp_path / "a.csv", index=False)
    assert {c.path: c.labels for c in relabelled(datasets.load_own(sounds), tmp_path / "a.csv")}[clip] == ("new",)


BAD = {
    "none": (None, r"^labelled: .*a\.csv is not a file; expected a table of `suggest` with the labels filled in$"),
    "no column": ("file,label\na.wav,x", r"a\.csv: no column 'correct_label'; found file, label"),
    "no label": ("file,correct_label\na.wav, ", r"a\.csv: no row has a correct_label; fill some in, or leave the"),
    "no file": (
        "file,correct_label\n,dog",
        r"a\.csv, row 2: has a label but no file; name the file, or remove the row$",
    ),
    "two labels": ("file,correct_label\nb.wav,dog\n./b.wav,cat", r"row 3: \./b\.wav has another label in an earlier"),
    "parts": ("file,correct_label\na.wav,dog", r"a\.csv: .*a\.wav is cut into several clips; correct them where they"),
}


@pytest.mark.parametrize("what", BAD)
def test_labels_that_cannot_be(what, tmp_path):
    text, message = BAD[what]
    if text is not None:
        (tmp_path / "a.csv").write_text(text)
    clips = [Clip(f"a.wav#{start}", tmp_path / "a.wav", ("cat",), start_seconds=start) for start in (0.0, 1.0)]
    with pytest.raises(InputError, match=message):
        relabelled(clips, tmp_path / "a.csv")


@pytest.mark.parametrize("as_manifest", [False, True])
def test_classify_hears_what_was_labelled(as_manifest, labelled, recordings, tmp_path):
    _, sounds = labelled
    if as_manifest:
        rows = [f"{clip.path},{clip.labels[0]}" for clip in datasets.load_own(sounds)]
        sounds = tmp_path / "manifest.csv"
        sounds.write_text("\n".join(["path,label", *rows]))
    (tmp_path / "a.csv").write_text("file,correct_label\nsounds/quiet/3.wav,=loud\nrecordings/3.wav,quiet")
    given = [sounds, "--labelled", tmp_path / "a.csv", "--output-dir", tmp_path / "new"]
    options = classify.arguments().parse_args([*map(str, given), "--quiet"])
    found, *_ = own_sounds.found(options)
    clips, names, failures, *_ = own_sounds.load(options, found, CONFIG, cli.Phases(options, "decoding"))
    assert (names, failures) == (LABELS, [])
    counts = {name: sum(clip.labels == (name,) for clip in clips) for name in names}
    assert counts == {"=loud": 7, "quiet": 6}


# ---- refused


def test_arguments_that_cannot_be(model, labelled, recordings, tmp_path):
    folder, sounds = labelled

    def refused(message, *arguments):
        with pytest.raises(InputError, match=message):
            run_main("suggest", *arguments, "--output", tmp_path / "a.csv")

    refused(
        r"mine: has no predictions\.csv, as 'classify' writes it; make the model again$", model, sounds, "--predictions"
    )
    (tmp_path / "others" / "a").mkdir(parents=True)
    write(tmp_path / "others" / "a" / "0.wav", noise(500))
    others = tmp_path / "others"
    refused(r"others: has no clip of .*; name the folder that the model was made of$", folder, others, "--predictions")
    table = (folder / "predictions.csv").read_text()
    (folder / "predictions.csv").write_text(table.replace(",quiet,", ",calm,"))
    refused(r"row 3: 'calm' is no label of the model; they are of two", folder, sounds, "--predictions")
    Card(CONFIG, labels=LABELS).write(folder)
    refused(r"mine: has no probe; expected a model folder that 'classify' wrote$", folder, recordings)
