"""Every data set keeps the same contract; every layout and error is tried on a tiny tree; real data where there are."""

import ast
import functools
import hashlib
import http.server
import inspect
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from keras_audio_transfer import datasets
from keras_audio_transfer.datasets import DATASETS, Clip, Remote, download, hold_out, label_names, load, synthetic
from keras_audio_transfer.errors import InputError

REAL_DATA = os.environ.get("KAT_TEST_DATA")
needs_real_data = pytest.mark.skipif(not REAL_DATA, reason="KAT_TEST_DATA does not name a folder with the data sets")

ESC50_HEADER = "filename,fold,target,category,esc10,src_file,take\n"
URBANSOUND8K_HEADER = "slice_file_name,fsID,start,end,salience,fold,classID,class\n"


def write_tree(root, files):
    """Write {relative path: text} below `root`; '' makes an empty file, which no data set module ever opens."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


TINY = {
    "synthetic": {},
    "esc50": {
        "meta/esc50.csv": ESC50_HEADER + "2-7-A-0.wav,2,0,dog,True,7,A\n1-5-B-3.wav,1,3,cow,False,5,B\n",
        "audio/2-7-A-0.wav": "",
        "audio/1-5-B-3.wav": "",
    },
    "esc10": {
        "meta/esc50.csv": ESC50_HEADER + "2-7-A-0.wav,2,0,dog,True,7,A\n1-5-B-3.wav,1,3,cow,False,5,B\n",
        "audio/2-7-A-0.wav": "",
    },
    "urbansound8k": {
        "metadata/UrbanSound8K.csv": URBANSOUND8K_HEADER
        + "9-8-0-0.wav,9,0,4,1,10,8,siren\n3-1-0-1.wav,3,0,4,1,2,1,car_horn\n",
        "audio/fold10/9-8-0-0.wav": "",
        "audio/fold2/3-1-0-1.wav": "",
    },
    "speech_commands": {
        "validation_list.txt": "yes/b2_nohash_0.wav\n",
        "testing_list.txt": "no/c3_nohash_0.wav\nno/c3_nohash_1.wav\n",
        "yes/a1_nohash_0.wav": "",
        "yes/b2_nohash_0.wav": "",
        "no/c3_nohash_0.wav": "",
        "no/c3_nohash_1.wav": "",
        "_background_noise_/pink_noise.wav": "",
    },
    "fsdd": {"recordings/7_ada_4.wav": "", "recordings/7_ada_5.wav": "", "recordings/0_von_der_au_12.wav": ""},
    "folder": {"dog/a.wav": "", "dog/deep/er/b.FLAC": "", "Käse/c.aif": "", "dog/notes.txt": "", ".git/x/d.wav": ""},
    "manifest": {"clips.csv": "path,label,split,group\nb.wav,dog,test,1\nsub/a.wav,cat|dog,train,2\n"},
}


def tiny(name, root):
    write_tree(root, TINY[name])
    return root / "clips.csv" if name == "manifest" else root


def rows(clips):
    return [(clip.clip_id, clip.labels, clip.fold, clip.split, clip.group) for clip in clips]


def sides(clips, attribute):
    """For each group the different values of `attribute` that its clips have."""
    found = defaultdict(set)
    for clip in clips:
        if clip.group:
            found[clip.group].add(getattr(clip, attribute))
    return found


# The contract


@pytest.mark.parametrize("name", DATASETS)
def test_modules_have_the_same_parts_in_the_same_order(name):
    module = DATASETS[name]
    assert module.__name__.rpartition(".")[2] == name
    source = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = [
        getattr(node, "name", None) or node.targets[0].id
        for node in source.body
        if hasattr(node, "body") or hasattr(node, "targets")
    ]
    parts = ["CITATION", "LICENSE", "REMOTES", "LABELS", "clips"]
    assert [name for name in names if name in parts] == parts
    assert list(inspect.signature(module.clips).parameters) == ["data_dir"]
    assert ast.get_docstring(source)
    assert all(isinstance(text, str) and text for text in (module.CITATION, module.LICENSE))
    assert isinstance(module.LABELS, tuple)
    assert all(isinstance(label, str) for label in module.LABELS)
    assert len(set(module.LABELS)) == len(module.LABELS)


@pytest.mark.parametrize("name", DATASETS)
def test_remotes_are_complete(name):
    lengths = {"md5": 32, "sha256": 64}
    for remote in DATASETS[name].REMOTES.values():
        assert remote.url.startswith("https://")
        assert remote.url.endswith((".zip", ".tar.gz"))
        algorithm, digest = remote.checksum.split(":")
        assert len(bytes.fromhex(digest)) * 2 == lengths[algorithm]


@pytest.mark.parametrize("name", DATASETS)
def test_clips_keep_the_contract(name, tmp_path):
    data_dir = tiny(name, tmp_path)
    clips = load(name, data_dir)
    check_clips(name, clips)
    assert rows(clips) == rows(load(name, str(data_dir)))
    for attribute in ("split", "fold"):
        assert all(len(values) == 1 for values in sides(clips, attribute).values())


def check_clips(name, clips):
    ids = [clip.clip_id for clip in clips]
    assert ids == sorted(set(ids))
    for clip in clips:
        assert "\\" not in clip.clip_id
        assert clip.labels
        assert not DATASETS[name].LABELS or set(clip.labels) <= set(DATASETS[name].LABELS)
        assert type(clip.fold) is int
        assert clip.fold >= -1
        assert clip.split in ("", *datasets.SPLITS)
        assert (clip.path is None) != (clip.synthesise is None)


def test_datasets_do_not_import_tensorflow():
    code = "import sys, keras_audio_transfer.datasets; print(*({'tensorflow', 'keras'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


# Each layout


def test_esc50(tmp_path):
    clips = load("esc50", tiny("esc50", tmp_path))
    assert rows(clips) == [
        ("audio/1-5-B-3.wav", ("cow",), 1, "", "5"),
        ("audio/2-7-A-0.wav", ("dog",), 2, "", "7"),
    ]
    assert clips[0].path == tmp_path / "audio" / "1-5-B-3.wav"


def test_esc10_needs_only_its_own_clips(tmp_path):
    assert rows(load("esc10", tiny("esc10", tmp_path))) == [("audio/2-7-A-0.wav", ("dog",), 2, "", "7")]
    with pytest.raises(InputError, match=r"esc50: .* has no audio/1-5-B-3.wav; .*github.com/karolpiczak.*--download"):
        load("esc50", tmp_path)


def test_urbansound8k(tmp_path):
    clips = load("urbansound8k", tiny("urbansound8k", tmp_path))
    assert rows(clips) == [
        ("audio/fold10/9-8-0-0.wav", ("siren",), 10, "", "9"),
        ("audio/fold2/3-1-0-1.wav", ("car_horn",), 2, "", "3"),
    ]
    assert clips[1].path == tmp_path / "audio" / "fold2" / "3-1-0-1.wav"


def test_speech_commands(tmp_path):
    assert rows(load("speech_commands", tiny("speech_commands", tmp_path))) == [
        ("no/c3_nohash_0.wav", ("no",), -1, "test", "c3"),
        ("no/c3_nohash_1.wav", ("no",), -1, "test", "c3"),
        ("yes/a1_nohash_0.wav", ("yes",), -1, "train", "a1"),
        ("yes/b2_nohash_0.wav", ("yes",), -1, "validation", "b2"),
    ]


def test_fsdd(tmp_path):
    assert rows(load("fsdd", tiny("fsdd", tmp_path))) == [
        ("recordings/0_von_der_au_12.wav", ("0",), -1, "train", "0_von_der_au_12"),
        ("recordings/7_ada_4.wav", ("7",), -1, "test", "7_ada_4"),
        ("recordings/7_ada_5.wav", ("7",), -1, "train", "7_ada_5"),
    ]


def test_folder(tmp_path):
    assert rows(load("folder", tiny("folder", tmp_path))) == [
        ("Käse/c.aif", ("Käse",), -1, "", ""),
        ("dog/a.wav", ("dog",), -1, "", ""),
        ("dog/deep/er/b.FLAC", ("dog",), -1, "", ""),
    ]


def test_folder_spells_accents_in_one_way(tmp_path):
    write_tree(tmp_path, {"Ka\u0308se/u\u0308.wav": ""})  # as macOS writes them
    (clip,) = load("folder", tmp_path)
    assert (clip.clip_id, clip.labels) == ("K\u00e4se/\u00fc.wav", ("K\u00e4se",))
    assert clip.path.exists()


def test_folder_with_splits(tmp_path):
    files = {"train/dog/a.wav": "", "train/cat/b.ogg": "", "test/dog/a.MP3": "", ".cache/x": "", "readme.txt": ""}
    assert rows(load("folder", write_tree(tmp_path, files))) == [
        ("test/dog/a.MP3", ("dog",), -1, "test", ""),
        ("train/cat/b.ogg", ("cat",), -1, "train", ""),
        ("train/dog/a.wav", ("dog",), -1, "train", ""),
    ]


def test_folder_takes_train_for_a_class_beside_other_classes(tmp_path):
    files = {"train/a.wav": "", "tram/b.aiff": "", "tram/.hidden/c.wav": "", "tram/.d.wav": ""}
    assert rows(load("folder", write_tree(tmp_path, files))) == [
        ("train/a.wav", ("train",), -1, "", ""),
        ("tram/b.aiff", ("tram",), -1, "", ""),
    ]


def test_manifest(tmp_path):
    elsewhere = (tmp_path / "elsewhere" / "ö.wav").as_posix()
    text = (
        "\ufefflabel,path,fold,split,group,remark\n"  # a byte order mark, as spreadsheet programs write
        f'"rock | loud,noisy | rock",{elsewhere},0,train,x,kept out\n'
        "jazz, ../up.wav ,,,,\n"
        "jazz,./a.wav,12,test,y,\n"
    )
    clips = load("manifest", write_tree(tmp_path / "lists", {"clips.csv": text}) / "clips.csv")
    assert rows(clips) == sorted(
        [
            (elsewhere, ("rock", "loud,noisy"), 0, "train", "x"),
            ((tmp_path / "up.wav").as_posix(), ("jazz",), -1, "", ""),
            ("a.wav", ("jazz",), 12, "test", "y"),
        ]
    )
    assert {clip.path for clip in clips} == {Path(elsewhere), tmp_path / "up.wav", tmp_path / "lists" / "a.wav"}


# Each error


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "synthetic"])
def test_a_data_set_needs_a_folder_that_exists(name, tmp_path):
    with pytest.raises(InputError, match=rf"^{name}: .*--data-dir"):
        load(name)
    with pytest.raises(InputError, match=rf"^{name}: .*nowhere is not a f"):
        load(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", [name for name, module in DATASETS.items() if module.REMOTES])
def test_an_empty_folder_is_told_what_it_lacks_and_where_to_get_it(name, tmp_path):
    with pytest.raises(
        InputError, match=rf"^{name}: .* has no [a-zA-Z0-9_/.]+.*; get .*https://.*--download$"
    ) as error:
        load(name, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "esc50",
            {"meta/esc50.csv": "filename,fold\nx.wav,1\n"},
            r"esc50.csv: no column 'category'; found filename, fold",
        ),
        ("esc50", {"meta/esc50.csv": ESC50_HEADER + "a.wav,one,0,dog,True,7,A\n"}, r"row 2: fold is 'one'"),
        ("esc50", {"meta/esc50.csv": ESC50_HEADER + "a.wav,1\n"}, r"row 2: not the 7 values"),
        ("esc50", {"meta/esc50.csv": ESC50_HEADER}, r"lists no clips"),
        ("esc10", {"audio/2-7-A-0.wav": None}, r"esc10: .* has no audio/2-7-A-0.wav"),
        ("urbansound8k", {"audio/fold2/3-1-0-1.wav": None}, r"no audio/fold2/3-1-0-1.wav;"),
        (
            "urbansound8k",
            {"audio/fold2/3-1-0-1.wav": None, "audio/fold10/9-8-0-0.wav": None},
            r"no audio/fold10/9-8-0-0.wav and 1 more of 2;",
        ),
        ("speech_commands", {"no/c3_nohash_1.wav": None}, r"no no/c3_nohash_1.wav; get .*--download"),
        ("speech_commands", {"testing_list.txt": None}, r"no testing_list.txt; get"),
        ("fsdd", {"recordings/seven.wav": ""}, r"seven.wav is not named \{digit\}_\{speaker\}_\{index\}.wav"),
        (
            "fsdd",
            {"recordings/7_ada_4.wav": None, "recordings/7_ada_5.wav": None, "recordings/0_von_der_au_12.wav": None},
            r"recordings has no .wav files; get it from https",
        ),
        ("folder", {"cat/readme.txt": ""}, r"cat has no audio \(.wav, .flac"),
        ("folder", {"cat/.hidden.wav": ""}, r"cat has no audio"),
        ("manifest", {"clips.csv": "path,class\na.wav,dog\n"}, r"clips.csv: no column 'label'; found path, class"),
        ("manifest", {"clips.csv": ""}, r"no column 'path'; found none"),
        ("manifest", {"clips.csv": "path,label\n"}, r"lists no clips"),
        ("manifest", {"clips.csv": "path,label\na.wav,dog\nb.wav, | \n"}, r"clips.csv, row 3: b.wav has no label"),
        ("manifest", {"clips.csv": "path,label\n,dog\n"}, r"clips.csv, row 2: no path"),
        ("manifest", {"clips.csv": "path,label\na.wav,dog\n\nx/../a.wav,cat\n"}, r"row 4: x/../a.wav is .* twice"),
        ("manifest", {"clips.csv": "path,label\na, b.wav,dog\n"}, r"row 2: not the 2 values the header names"),
        (
            "manifest",
            {"clips.csv": "path,label,split\na.wav,dog,dev\n"},
            r"row 2: split is 'dev'; expected train, validation, test or nothing",
        ),
        ("manifest", {"clips.csv": "path,label,fold\na.wav,dog,-1\n"}, r"row 2: fold is '-1'; expected a whole number"),
        ("manifest", {"clips.csv": "path,label,fold\na.wav,dog,1.5\n"}, r"row 2: fold is '1.5'"),
        (
            "manifest",
            {"clips.csv": "path,label,split,group\na.wav,dog,train,x\nb.wav,dog,test,x\n"},
            r"row 3: group 'x' is in the splits 'test' and 'train'",
        ),
        (
            "manifest",
            {"clips.csv": "path,label,fold,group\na.wav,dog,1,x\nb.wav,dog,2,x\n"},
            r"row 3: group 'x' is in the folds 2 and 1",
        ),
    ],
)
def test_errors(name, change, message, tmp_path):
    data_dir = tiny(name, tmp_path)
    write_tree(tmp_path, {path: text for path, text in change.items() if text is not None})
    for path in (path for path, text in change.items() if text is None):
        (tmp_path / path).unlink()
    with pytest.raises(InputError, match=message):
        load(name, data_dir)


def test_folder_errors(tmp_path):
    with pytest.raises(InputError, match="has no class folders"):
        load("folder", write_tree(tmp_path / "flat", {"a.wav": ""}))
    with pytest.raises(InputError, match="train has no class folders"):
        load("folder", write_tree(tmp_path / "split", {"train/a.wav": "", "test/dog/b.wav": ""}))
    with pytest.raises(InputError, match=r"a.wav is not a folder.*for a CSV: manifest"):
        load("folder", tmp_path / "flat" / "a.wav")


def test_manifest_has_to_be_a_file_in_utf8(tmp_path):
    with pytest.raises(InputError, match="is not a file; pass a CSV file"):
        load("manifest", tmp_path)
    (tmp_path / "latin.csv").write_bytes("path,label\nö.wav,dog\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin.csv: not UTF-8"):
        load("manifest", tmp_path / "latin.csv")


def test_unknown_data_set():
    with pytest.raises(InputError, match=r"'esc-50' is not a data set; expected one of synthetic, esc10, esc50"):
        load("esc-50")


# Synthetic sounds


def test_synthetic_sizes_and_splits():
    clips = load("synthetic")
    assert Counter(clip.split for clip in clips) == {"train": 300, "validation": 100, "test": 100}
    assert all(count == 100 for count in Counter(clip.labels for clip in clips).values())
    assert all(len(splits) == 1 for splits in sides(clips, "split").values())
    # Every class is heard under every condition: the condition says nothing about the class.
    assert set(Counter((clip.labels, clip.group) for clip in clips).values()) == {10}


def test_synthetic_sounds_are_all_different_and_in_range():
    sounds = [clip.synthesise() for clip in load("synthetic")[::7]]
    assert {rate for _, rate in sounds} == {16_000}
    for samples, _ in sounds:
        assert samples.shape == (16_000,)
        assert samples.dtype == np.float32
        assert 0.05 < np.abs(samples).max() <= 1
        assert np.isfinite(samples).all()
    assert len({samples.tobytes() for samples, _ in sounds}) == len(sounds)


def test_synthetic_sounds_are_the_same_in_every_process():
    code = """
import hashlib
from keras_audio_transfer.datasets import load
print(hashlib.sha256(b"".join(clip.synthesise()[0].tobytes() for clip in load("synthetic")[::25])).hexdigest())
"""
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    np.random.seed(0)  # the global state must not matter
    clips = load("synthetic")[::25]
    here = [clip.synthesise()[0].tobytes() for clip in reversed(clips)]  # nor must the order
    assert hashlib.sha256(b"".join(reversed(here))).hexdigest() == run.stdout.strip()


def test_synthetic_sounds_do_not_change():
    """Published scores depend on the sounds: a change of them has to be meant. Compared loosely, as machines round."""
    levels = [np.sqrt(np.mean(synthetic.synthesise(label, "room", 3)[0] ** 2)) for label in synthetic.LABELS]
    np.testing.assert_allclose(levels, [0.202114, 0.078463, 0.077534, 0.095846, 0.167637], rtol=1e-4)


def test_synthetic_conditions_do_what_they_say():
    """A telephone passes nothing above 3400 Hz; an overloaded microphone flattens the peaks."""
    telephone, studio, overload = (
        np.array([synthetic.synthesise("noisy", condition, number)[0] for number in range(10)])
        for condition in ("telephone", "studio", "overload")
    )
    power = (np.abs(np.fft.rfft(telephone)) ** 2).mean(axis=0)  # bins are 1 Hz wide
    assert power[5000:].sum() < 0.01 * power[300:3400].sum()

    def crest(sounds):
        return (np.abs(sounds).max(axis=1) / np.sqrt((sounds**2).mean(axis=1))).mean()

    assert crest(overload) < 0.7 * crest(studio)


def test_synthetic_classes_are_neither_trivial_nor_hopeless():
    """A plain classifier is well above chance (0.2) and well below perfect on the conditions it has not heard."""
    clips = load("synthetic")
    frames = np.stack([clip.synthesise()[0] for clip in clips])[:, : 31 * 512].reshape(500, 31, 512)
    power = np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2  # (clips, frames, 257)
    bands = np.log(np.add.reduceat(power, np.unique(np.geomspace(2, 256, 40).astype(int)), axis=2) + 1e-6)
    features = np.hstack([bands.mean(axis=1), bands.std(axis=1)])
    labels = np.array([clip.labels[0] for clip in clips])
    test = np.array([clip.split == "test" for clip in clips])
    probe = make_pipeline(StandardScaler(), SVC(C=8)).fit(features[~test], labels[~test])
    assert 0.6 < probe.score(features[test], labels[test]) < 0.9


# Labels and holding out


def test_label_names():
    clips = [Clip("a", None, labels=("zebra", "dog")), Clip("b", None, labels=("ant",)), Clip("c", None)]
    assert label_names(clips) == ["ant", "dog", "zebra"]
    assert label_names(clips, canonical=("zebra", "cow")) == ["zebra", "ant", "dog"]
    assert label_names([]) == []


@st.composite
def clip_lists(draw):
    pairs = draw(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 12)), min_size=12, max_size=60))
    return [
        Clip(str(i), None, labels=(label,), group=f"g{group}" if group else "")
        for i, (label, group) in enumerate(pairs)
    ]


@pytest.mark.filterwarnings("ignore:The least populated class:UserWarning")
@settings(max_examples=60, deadline=None)
@given(clips=clip_lists(), fraction=st.sampled_from([0.5, 0.34, 0.25, 0.2]), seed=st.integers(0, 2**32 - 1))
def test_hold_out_never_divides_a_group(clips, fraction, seed):
    if len({clip.group or clip.clip_id for clip in clips}) < round(1 / fraction):
        with pytest.raises(InputError, match="groups to choose from"):
            hold_out(clips, fraction, seed)
        return
    if max(Counter(clip.labels for clip in clips).values()) < round(1 / fraction):
        with pytest.raises(InputError, match="of a label"):
            hold_out(clips, fraction, seed)
        return
    kept, held_out = hold_out(clips, fraction, seed)
    assert sorted([*kept, *held_out], key=clips.index) == clips
    assert kept
    assert held_out
    assert not {clip.group for clip in kept if clip.group} & {clip.group for clip in held_out}
    assert hold_out(clips, fraction, seed) == (kept, held_out)


def test_hold_out_keeps_labels_in_proportion_and_order():
    clips = [Clip(f"{i}", None, labels=(label, "extra")) for i, label in enumerate("A" * 80 + "B" * 20)]
    kept, held_out = hold_out(clips, 0.2, seed=3)
    assert Counter(clip.labels[0] for clip in held_out) == {"A": 16, "B": 4}
    assert kept == sorted(kept, key=clips.index)
    assert held_out == sorted(held_out, key=clips.index)
    assert hold_out(clips, 0.2, seed=4) != (kept, held_out)


def test_hold_out_does_not_take_a_clip_for_the_group_of_the_same_name():
    clips = [Clip("x", None, labels=("A",)), Clip("y", None, labels=("A",), group="x")]
    kept, held_out = hold_out(clips, 0.5, seed=0)
    assert len(kept) == len(held_out) == 1


@pytest.mark.parametrize("fraction", [0, -0.1, 0.6, 1, float("nan")])
def test_hold_out_fraction(fraction):
    with pytest.raises(InputError, match=r"fraction is .*; expected more than 0 and at most 0.5"):
        hold_out(load("synthetic"), fraction, seed=0)


def test_hold_out_too_few():
    clips = [Clip(str(i), None, labels=(str(i % 6),), group=f"g{i // 6}") for i in range(18)]
    with pytest.raises(InputError, match=r"1/5 of the clips needs 5 groups to choose from, there are 3"):
        hold_out(clips, 0.2, seed=0)
    clips = [Clip(str(i), None, labels=(str(i),)) for i in range(6)]
    with pytest.raises(InputError, match=r"1/5 of the clips needs 5 of a label, the most there are is 1 \('0'\)"):
        hold_out(clips, 0.2, seed=0)


# Downloads, from a server on this machine


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve tmp_path/www; returns its address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "www").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=tmp_path / "www")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def pack(archive, files):
    """Write {name: text} as a .zip or .tar.gz file; returns its checksum."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for name, text in files.items():
                file.writestr(name, text)
    else:
        with tarfile.open(archive, "w:gz") as file:
            for name, text in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(text.encode())
                file.addfile(member, io.BytesIO(text.encode()))
    return "sha256:" + hashlib.sha256(archive.read_bytes()).hexdigest()


@pytest.mark.parametrize("archive", ["esc.zip", "esc.tar.gz"])
@pytest.mark.parametrize("exists", [False, True])
def test_download_gives_a_folder_that_loads(archive, exists, server, tmp_path, monkeypatch):
    checksum = pack(tmp_path / "www" / archive, {f"top/{name}": text for name, text in TINY["esc50"].items()})
    monkeypatch.setattr(DATASETS["esc50"], "REMOTES", {"ESC-50": Remote(f"{server}/{archive}", checksum, "top")})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "another disk"))  # where nothing may be put: renaming fails
    data_dir = tmp_path / "new" / "esc"
    if exists:
        data_dir.mkdir(parents=True)
    download("esc50", data_dir, progress=False)
    assert len(load("esc50", data_dir)) == 2
    assert [path.name for path in data_dir.parent.iterdir()] == ["esc"]


def test_download_takes_the_version_the_folder_is_named_after(server, tmp_path, monkeypatch):
    remotes = {}
    for version in ("words_v1", "words_v2"):
        files = {f"./{name}": text for name, text in TINY["speech_commands"].items()} | {"./version": version}
        checksum = pack(tmp_path / "www" / f"{version}.tar.gz", files)
        remotes[version] = Remote(f"{server}/{version}.tar.gz", checksum, "")
    monkeypatch.setattr(DATASETS["speech_commands"], "REMOTES", remotes)
    download("speech_commands", tmp_path / "words_v2", progress=False)
    assert (tmp_path / "words_v2" / "version").read_text() == "words_v2"
    assert len(load("speech_commands", tmp_path / "words_v2")) == 4
    with pytest.raises(InputError, match=r"words_v3\? Name the folder words_v1 or words_v2"):
        download("speech_commands", tmp_path / "words_v3", progress=False)


def test_download_with_a_wrong_checksum_leaves_nothing(server, tmp_path, monkeypatch):
    pack(tmp_path / "www" / "esc.zip", {"top/meta/esc50.csv": "not what was published"})
    remote = Remote(f"{server}/esc.zip", "md5:" + "0" * 32, "top")
    monkeypatch.setattr(DATASETS["esc50"], "REMOTES", {"ESC-50": remote})
    with pytest.raises(InputError, match=r"esc50: .*esc.zip does not have the checksum md5:0+; nothing was kept"):
        download("esc50", tmp_path / "new" / "esc", progress=False)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("url", ["{server}/missing.zip", "http://127.0.0.1:9/esc.zip"])
def test_download_that_fails_leaves_nothing(url, server, tmp_path, monkeypatch):
    remote = Remote(url.format(server=server), "md5:" + "0" * 32, "top")
    monkeypatch.setattr(DATASETS["esc50"], "REMOTES", {"ESC-50": remote})
    with pytest.raises(InputError, match=r"esc50: http.*zip could not be downloaded .*check the network") as error:
        download("esc50", tmp_path / "new" / "esc", progress=False)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "new").iterdir()) == []


def test_download_does_not_touch_data(tmp_path):
    write_tree(tmp_path, {"esc/mine.wav": ""})
    for data_dir in (tmp_path / "esc", tmp_path / "esc" / "mine.wav"):
        with pytest.raises(InputError, match="exists and is not an empty folder"):
            download("esc50", data_dir)
    assert (tmp_path / "esc" / "mine.wav").exists()


@pytest.mark.parametrize("name", ["synthetic", "folder", "manifest"])
def test_download_where_there_is_nothing(name, tmp_path):
    with pytest.raises(InputError, match=rf"{name}: there is nothing to download"):
        download(name, tmp_path / "new")


def test_download_of_an_unknown_data_set(tmp_path):
    with pytest.raises(InputError, match="'nosuch' is not a data set"):
        download("nosuch", tmp_path)


# The real data


@needs_real_data
@pytest.mark.parametrize(
    ("name", "folder", "count", "labels"),
    [
        ("esc50", "ESC-50", 400, 10),
        ("esc10", "ESC-50", 400, 10),
        ("urbansound8k", "UrbanSound8K", 2598, 10),
        ("speech_commands", "speech_commands_v0.01", 4420, 12),
        ("fsdd", "free-spoken-digit-dataset", 3000, 10),
    ],
)
def test_real_data(name, folder, count, labels):
    clips = load(name, Path(REAL_DATA, folder))
    check_clips(name, clips)
    assert len(clips) == count
    assert len(label_names(clips, DATASETS[name].LABELS)) == labels
    assert all(clip.path.is_file() for clip in clips)
    assert all(clip.group for clip in clips)
    for attribute in ("split", "fold"):
        assert all(len(values) == 1 for values in sides(clips, attribute).values())


@needs_real_data
def test_real_folds_and_splits():
    def count(name, folder, attribute):
        return Counter(getattr(clip, attribute) for clip in load(name, Path(REAL_DATA, folder)))

    assert count("esc10", "ESC-50", "fold") == dict.fromkeys([1, 2, 3, 4, 5], 80)
    assert count("urbansound8k", "UrbanSound8K", "fold") == {1: 873, 2: 888, 10: 837}
    speech = {"train": 3240, "validation": 540, "test": 640}
    assert count("speech_commands", "speech_commands_v0.01", "split") == speech
    assert count("fsdd", "free-spoken-digit-dataset", "split") == {"train": 2700, "test": 300}


@needs_real_data
def test_real_data_as_plain_folders():
    clips = load("folder", Path(REAL_DATA, "speech_commands_v0.01"))
    words = load("speech_commands", Path(REAL_DATA, "speech_commands_v0.01"))
    assert [(clip.clip_id, clip.labels) for clip in clips] == [(clip.clip_id, clip.labels) for clip in words]


@needs_real_data
def test_hold_out_on_real_data_is_stratified_and_by_speaker():
    train = [
        clip for clip in load("speech_commands", Path(REAL_DATA, "speech_commands_v0.01")) if clip.split == "train"
    ]
    kept, held_out = hold_out(train, 0.1, seed=0)
    assert 0.08 < len(held_out) / len(train) < 0.12
    assert not {clip.group for clip in kept} & {clip.group for clip in held_out}
    shares = [count / 270 for count in Counter(clip.labels for clip in held_out).values()]
    assert len(shares) == 12
    assert max(abs(share - 0.1) for share in shares) < 0.03
