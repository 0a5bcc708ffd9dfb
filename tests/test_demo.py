"""`demo`: what a model says of a recording, how the page shows it, and the page itself where Gradio is installed."""

import base64
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import ROOT, run_main
from sounds import CONFIG, noise

import keras_audio_transfer as kat
from keras_audio_transfer.commands import demo
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.examples import Example
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.servers import demo_answer, demo_page, demo_picture
from keras_audio_transfer.servers.demo_answer import answer

RATE = CONFIG.sample_rate


def stand_in(scores_are=None, **columns):
    """A model of two labels that hears how loud a clip is; `columns`: further ones, of the share that is loud."""
    card = Card(CONFIG, labels=["loud", "<b>quiet"], scores_are=scores_are)

    def predict(waveform, sample_rate):
        loud = float(np.mean(np.abs(waveform) > 0.25))
        table = pd.DataFrame({"label": card.labels, "score": [loud, 1 - loud]})
        table = table.assign(**{name: of(table["score"]) for name, of in columns.items()})
        table.attrs["scores_are"] = scores_are or "probabilities, whose sum is 1"
        return table.sort_values("score", ascending=False, ignore_index=True)

    return SimpleNamespace(card=card, labels=card.labels, path=Path("mine"), predict=predict)


page_of = partial(demo_page.page_of, top=5, limits={"known_at_least": 0.05}, max_seconds=600.0, hop_seconds=None)


def written(folder, *parts, name="a.wav"):
    """A file of so many seconds at each level, one after the other."""
    waveform = np.concatenate([np.full(round(seconds * RATE), level, np.float32) for seconds, level in parts])
    soundfile.write(folder / name, waveform, RATE, subtype="FLOAT")
    return folder / name


# ---- the answer


def test_a_clip_has_what_the_model_predicts(tmp_path):
    model = kat.load_model()
    soundfile.write(tmp_path / "a.wav", noise(30_000, 2), 44100, subtype="FLOAT")
    heard = answer(tmp_path / "a.wav", model)
    expected = model.predict(*soundfile.read(tmp_path / "a.wav", dtype="float32"))
    assert heard.labels["label"].tolist() == expected["label"].tolist()
    np.testing.assert_allclose(heard.labels["score"], expected["score"], atol=1e-6)
    assert (heard.n_windows, heard.segments, heard.known, heard.notes) == (0, [], None, ())
    assert (heard.scores_are, heard.are_probabilities) == (expected.attrs["scores_are"], True)


def test_a_long_recording_has_segments(tmp_path):
    file = written(tmp_path, (20.1, 0.5), (19.9, 0.1))
    heard = answer(file, stand_in(), hop_seconds=0.25)
    assert heard.n_windows == 160
    assert [(s.start, s.end, s.label) for s in heard.segments] == [(0, 20.125, "loud"), (20.125, 39.875, "<b>quiet")]
    assert [segment.score for segment in heard.segments] == pytest.approx([1, 1], abs=0.01)
    assert dict(heard.labels.to_numpy()) == pytest.approx({"loud": 0.5, "<b>quiet": 0.5}, abs=0.01)
    assert answer(file, stand_in()).n_windows == 320  # half a window
    assert answer(file, stand_in("votes"), hop_seconds=0.25).segments == heard.segments


def test_windows_that_are_unlike_everything_lie_in_no_segment(tmp_path):
    model = stand_in(probability=lambda scores: scores**2, known=lambda scores: scores[0])
    heard = answer(written(tmp_path, (20.1, 0.5), (19.9, 0.1)), model, hop_seconds=0.25)
    assert [(s.start, s.end, s.label) for s in heard.segments] == [(0, 20.125, "loud")]
    assert heard.notes == ("79 of 160 windows are unlike everything the model was trained on",)
    assert heard.known == pytest.approx(0.5, abs=0.01)
    assert heard.scores_are == "probabilities"
    unsure = stand_in(probability=lambda scores: scores * 0.6, known=lambda scores: 1.0)
    hear = partial(answer, tmp_path / "a.wav", unsure, hop_seconds=0.25)
    found = [hear(probability_at_least=limit).segments for limit in (0.0, 0.7)]
    assert [len(segments) for segments in found] == [2, 0]


def test_what_is_not_heard_is_said(tmp_path):
    file = written(tmp_path, (2, 0.0))
    heard = answer(file, stand_in(), max_seconds=1)
    assert heard.notes == (
        "digital silence",
        "longer than 1 s: what comes later was not heard",
        "the model hears only its first 0.25 s",
    )
    assert len(heard.waveform) == RATE
    assert answer(file, stand_in(), max_seconds=2).notes[1:] == ("the model hears only its first 0.25 s",)


def test_a_small_file_cannot_fill_the_memory(tmp_path):
    soundfile.write(tmp_path / "wide.flac", np.zeros((1000, 8), np.int16), 96_000)
    with pytest.raises(InputError, match=r"wide.flac: has 8 channels of 96000 Hz; expected at most 384000 samples"):
        answer(tmp_path / "wide.flac", stand_in())


# ---- the picture


def test_the_mel_spectrogram_is_librosas():
    waveform = noise(40_001)  # several blocks, a column a frame
    power = librosa.feature.melspectrogram(y=waveform, sr=RATE, n_fft=64, hop_length=32, n_mels=8, fmin=0, fmax=1000)
    expected = 10 * np.log10(power / power.max())
    found = demo_picture.below_loudest(waveform[:30_001], CONFIG)
    assert found.shape == (8, 938)
    inside = slice(2, -2)  # at the end there is more sound in one than in the other
    difference = found[:, inside] - expected[:, :938][:, inside]
    np.testing.assert_allclose(difference, np.full_like(difference, difference[0, 0]), atol=1e-3)


@pytest.mark.parametrize("n_samples", [1, RATE])
def test_silence_is_black(n_samples):
    found = demo_picture.below_loudest(np.zeros(n_samples, np.float32), CONFIG)
    assert found.shape == (8, 1 + n_samples // 32)
    assert (found == -80).all()


def test_a_click_in_a_long_recording_is_seen():
    waveform = np.zeros(600 * RATE, np.float32)
    waveform[123 * RATE] = 1
    found = demo_picture.below_loudest(waveform, CONFIG)
    assert 900 < found.shape[1] <= demo_picture.COLUMNS
    assert found.max(axis=0).argmax() == pytest.approx(123 / 600 * found.shape[1], abs=1)


# ---- what is shown


def shown_text(page):
    return " ".join(re.sub("<[^>]+>", " ", page).split())


def test_a_page_shows_labels_notes_and_the_picture(tmp_path):
    page = page_of(str(written(tmp_path, (1, 1.0))), stand_in())
    assert shown_text(page) == (
        "Notes: clipped; the model hears only its first 0.25 s. loud 1.000 &lt;b&gt;quiet 0.000 "
        "The scores are probabilities, whose sum is 1."
    )
    assert re.findall(r'width:([\d.]+%)"', page) == ["100.0%", "0.0%", "100%"]  # the bars, and the picture
    assert '<img src="data:image/png;base64,iVBORw0KGgo' in page


def test_a_page_shows_probabilities_and_what_is_unknown(tmp_path):
    model = stand_in("votes", probability=lambda scores: scores * 0.5, known=lambda scores: 0.01)
    text = shown_text(page_of(str(written(tmp_path, (0.25, 0.5))), model))
    assert text.startswith("This is unlike everything the model was trained on. loud 0.500")
    assert "unlike" not in page_of(str(tmp_path / "a.wav"), model, limits={"known_at_least": 0.01})
    limits = {"known_at_least": 0.01, "probability_at_least": 0.6}
    said = "This is probably none of the labels: no label has a probability of 0.600, the model's limit."
    assert shown_text(page_of(str(tmp_path / "a.wav"), model, limits=limits)).replace("&#x27;", "'").startswith(said)


def test_a_page_lists_segments_and_says_what_scores_are(tmp_path):
    text = shown_text(page_of(str(written(tmp_path, (20.1, 0.5), (19.9, 0.1))), stand_in("votes"), hop_seconds=0.25))
    assert "The scores are votes; means over 160 windows." in text
    assert text.endswith("start, s end, s label mean score 0.0 20.1 loud 0.999 20.1 39.9 &lt;b&gt;quiet 1.000")
    silent = stand_in(known=lambda scores: 0.0)
    assert "No label is heard clearly" in page_of(str(tmp_path / "a.wav"), silent, hop_seconds=0.25)


def test_what_cannot_be_heard_is_one_sentence(tmp_path):
    assert page_of(None, stand_in()) == f"<p>{demo_page.NOTHING}</p>"
    assert page_of(str(tmp_path / "gone.wav"), stand_in()) == f"<p>{demo_page.GONE}</p>"
    (tmp_path / "<i>.wav").write_bytes(b"")
    assert page_of(str(tmp_path / "<i>.wav"), stand_in()).startswith("<p>&lt;i&gt;.wav: empty file (0 bytes); expected")
    broken = stand_in(probability=lambda scores: 1 / 0)
    said = page_of(str(written(tmp_path, (1, 0.5))), broken)
    assert said.startswith("<p>a.wav: failed (ZeroDivisionError: division by zero)")


def test_the_clips_most_like_a_recording_are_named_and_played(tmp_path, monkeypatch):
    near = [Example("<i>1.wav", ("loud",)), Example("2.wav", ("<b>quiet", "loud")), Example("3.wav", ("loud",))]
    monkeypatch.setattr(demo_answer, "_features", lambda waveform, model, layers: (waveform, layers))
    examples = SimpleNamespace(layers=["layer1"], nearest=lambda features: near if features[1] == ["layer1"] else [])
    there, gone = written(tmp_path, (0.3, 0.5), name="there.wav"), tmp_path / "gone.wav"
    sounds = {"<i>1.wav": Clip("<i>1.wav", there), "9.wav": Clip("9.wav", there), "3.wav": Clip("3.wav", gone)}
    page = page_of(str(written(tmp_path, (1, 0.5))), stand_in(), examples=examples, sounds=sounds)
    said = "most like this are: loud: &lt;i&gt;1.wav &lt;b&gt;quiet, loud: 2.wav loud: 3.wav (no player: gone.wav: "
    assert said in shown_text(page).replace(str(tmp_path) + "/", "")
    (sound,) = re.findall(r'<audio [^>]*src="data:audio/mpeg;base64,([^"]+)" aria-label="&lt;i&gt;1.wav"', page)
    assert soundfile.info(io.BytesIO(base64.b64decode(sound))).frames == pytest.approx(0.3 * 16000, abs=2400)
    assert page.count("<audio") == 1
    long = page_of(str(written(tmp_path, (40, 0.5))), stand_in(), examples=examples)  # in windows
    assert "most like" not in long
    assert "most like" not in page_of(str(tmp_path / "a.wav"), stand_in())


# ---- the command


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_what_cannot_be_served_is_refused_first(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"^demo: needs Gradio; pip install 'keras_audio_transfer\[demo\]'$"):
        run_main("demo", "default")
    monkeypatch.setattr(demo, "find_spec", lambda name: name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            InputError, match=rf"^--port: {port} at 127.0.0.1 cannot be listened at \(.+\); name another --port"
        ):
            run_main("demo", "default", "--port", port)
    with pytest.raises(InputError, match=r"--sounds: .* keeps no examples, which could be played; leave it out"):
        run_main("demo", "default", "--sounds", tmp_path)
    Card(CONFIG).write(tmp_path)
    with pytest.raises(InputError, match="names no labels, so there are no scores; expected a classifier"):
        run_main("demo", tmp_path)


def test_sounds_are_those_of_the_examples(tmp_path):
    for name in ("a/1.wav", "a/2.wav", "b/1.wav"):
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        written(tmp_path / "own", (0.1, 0.5), name=name)

    def sounds_of(*clip_ids):
        kept = SimpleNamespace(table=SimpleNamespace(clip_ids=np.array(clip_ids)))
        return demo.sounds_of(SimpleNamespace(sounds=tmp_path / "own", model_dir=Path("mine")), kept)

    assert {name: clip.path for name, clip in sounds_of("b/1.wav", "c.wav").items()} == {
        "b/1.wav": tmp_path / "own" / "b" / "1.wav"
    }
    with pytest.raises(InputError, match=r"--sounds: .*own has none of the 2 clips that mine keeps; name the folder"):
        sounds_of("b/9.wav", "c.wav")


@pytest.mark.slow
@pytest.mark.skipif(demo.find_spec("gradio") is None, reason="tests the extra demo, which is not installed")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_page_answers_and_leaves_nothing(end, free_port, tmp_path):
    from gradio_client import Client, handle_file

    kept = tmp_path / "kept"
    kept.mkdir()
    command = [sys.executable, ROOT / "scripts" / "demo.py", "default", "--port", free_port, "--max-file-mib", 1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(kept)}
    with subprocess.Popen([*map(str, command)], env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline().startswith(f"http://127.0.0.1:{free_port}/ is the page of ")
            client = Client(f"http://127.0.0.1:{free_port}/", verbose=False)
            for name, seconds in (("good.wav", 1), ("large.wav", 500)):
                soundfile.write(tmp_path / name, noise(seconds * RATE), RATE)
            (tmp_path / "bad.wav").write_text("this is not audio")
            said = {
                name: client.predict(handle_file(tmp_path / name), api_name="/hear") for name in ("good.wav", "bad.wav")
            }
            assert "data:image/png" in said["good.wav"]
            assert said["bad.wav"].startswith("<p>bad.wav: cannot be decoded")
            with pytest.raises(Exception, match="exceed"):
                client.predict(handle_file(tmp_path / "large.wav"), api_name="/hear")
            assert [file.name for file in kept.rglob("*.wav")] != []
        finally:
            process.send_signal(end)
        began = time.monotonic()
        assert process.wait(30) == 0
        assert time.monotonic() - began < 20
    assert [*kept.rglob("*.wav")] == []
