"""Every data set keeps the same contract; every layout and error is tried on a tiny tree; real data where there are."""

import ast
import contextlib
import errno
import functools
import hashlib
import http.server
import inspect
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
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
STATIC_ANNOTATIONS_HEADER = "song_id,mean_arousal,std_arousal,mean_valence,std_valence\n"
SONGS_INFO_HEADER = "song_id,file_name,Artist,Song title,Genre,Mediaeval 2013 set\n"
NOT_DOWNLOADABLE = [name for name, module in DATASETS.items() if not module.REMOTES]
TAGS = [DATASETS["magnatagatune"].LABELS, DATASETS["msd_lastfm50"].LABELS]
URBANSOUND8K_HEADER = "slice_file_name,fsID,start,end,salience,fold,classID,class\n"


def write_tree(root, files):
    """Write {relative path: text} below `root`; '' makes an empty file, which no data set module ever opens.

    Instead of a text it can be a list of rows of numbers, for a .npy file, or a table, for one of Parquet.
    """
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif isinstance(content, pa.Table):
            pa.parquet.write_table(content, path)
        else:
            np.save(path, np.array(content))
    return root


def magnatagatune_table(*rows):
    """annotations_final.csv: (mp3_path, *tags) for each row; of the tags that are not among the 50, one."""
    columns = ["clip_id", *sorted(TAGS[0]), "polka", "mp3_path"]
    lines = [columns]
    for number, (path, *tags) in enumerate(rows):
        lines.append([str(number), *("1" if tag in tags else "0" for tag in columns[1:-1]), path])
    return "".join("\t".join(f'"{value}"' for value in line) + "\n" for line in lines)


def msd_tags(*rows):
    """{split}_y.npy: the tags of each row."""
    return [[float(tag in tags) for tag in TAGS[1]] for tags in rows]


# Rows of an index: each column's value is one of its type.
PREPARED = [
    {
        **{name: 0 for name in ("source_bytes", "source_mtime_ns", "start_seconds", "fold", "offset")},
        **{name: 1 for name in ("duration_seconds", "recorded_rate", "recorded_channels", "samples", "seconds")},
        **{name: "" for name in ("source", "source_sha256", "split", "group", "checksum", "failure")},
        **{"clip_id": name, "dataset": "", "labels": ["dog"], "targets": [], "notes": [], "sample_rate": 16000},
        "shard": "clips-00000.tfrecord",
    }
    for name in ("a.wav", "b.wav")
]
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
    "gtzan_genre": {
        **{f"genres/{genre}/{genre}.00000.wav": "" for genre in DATASETS["gtzan_genre"].LABELS},
        "genres/blues/blues.00001.au": "",
        "genres/blues/._blues.00001.au": "",
        "genres/bextract_single.mf": "",
    },
    "gtzan_music_speech": {
        "music_wav/bagpipe.wav": "",
        "music_wav/winds.wav": "",
        "speech_wav/voices.wav": "",
        "speech_wav/notes.txt": "",
    },
    "extended_ballroom": {
        **{f"{dance}/10070{number}.mp3": "" for number, dance in enumerate(DATASETS["extended_ballroom"].LABELS)},
        "extendedballroom_v1.1.xml": "",
    },
    "emomusic": {
        "annotations/static_annotations.csv": STATIC_ANNOTATIONS_HEADER + "2,3.1,0.99,3,0.67\n10,9,1,1,1\n",
        "annotations/songs_info.csv": SONGS_INFO_HEADER
        + '2,2.mp3,"\tThe New Mystikal Troubadours\t","This, too","Blues\t",development\n'
        + "3,3.mp3,Not rated,x,y,development\n10,10.mp3,x,y,z,evaluation\n",
        "clips_45seconds/2.mp3": "",
        "clips_45seconds/10.mp3": "",
    },
    "jamendo_vocals": {
        "train/01 - Aur.ogg": "",
        "train/._01 - Aur.ogg": "",
        "valid/02. Dr. Love.mp3": "",
        "test/03 - Été.ogg": "",
        "jamendo_lab/01 - Aur.lab": "0.000000 9.5 nosing\n9.5 9.5001 sing\n9.5 100.25 sing\n\n100.25 120 nosing\n",
        "jamendo_lab/02. Dr. Love.lab": "0 1 sing\n",
        "jamendo_lab/03 - Été.lab": "2.5 3.25 nosing",
    },
    "magnatagatune": {
        "annotations_final.csv": magnatagatune_table(
            ("f/band-album-01-song-30-59.mp3", "choral", "guitar", "polka"),
            ("b/band-album-01-song-30-59.mp3", "techno"),
            ("b/band-album-01-song-0-29.mp3", "techno"),
            ("c/no_tag-0-29.mp3",),
            ("c/rare_tag-0-29.mp3", "polka"),
            ("c/x-59-88.mp3", "no vocals"),
            ("6/norine_braun-now_and_zen-08-gently-117-146.mp3", "guitar"),
        ),
        "f/band-album-01-song-30-59.mp3": "",
        "b/band-album-01-song-0-29.mp3": "",
        "b/band-album-01-song-30-59.mp3": "",
        "c/x-59-88.mp3": "",
    },
    "msd_lastfm50": {
        "train_x_filename.txt": "3/6/36122424.npy\n1/2/12.npy\n1/3/13.npy\n",
        "train_y.npy": msd_tags(["happy", "rock"], [], ["Hip-Hop"]),
        "valid_x_filename.txt": "5/0/5.npy\n",
        "valid_y.npy": msd_tags(["sad"]),
        "test_x_filename.txt": "4/0/4.npy\n",
        "test_y.npy": msd_tags(["00s", "House", "pop"]),
        "3/6/36122424.clip.mp3": "",
        "1/3/13.clip.mp3": "",
        "5/0/5.mp3": "",
        "4/0/4.wav": "",
    },
    "folder": {"dog/a.wav": "", "dog/deep/er/b.FLAC": "", "Käse/c.aif": "", "dog/notes.txt": "", ".git/x/d.wav": ""},
    "manifest": {"clips.csv": "path,label,split,group\nb.wav,dog,test,1\nsub/a.wav,cat|dog,train,2\n"},
    "prepared": {"index.parquet/00000.parquet": pa.Table.from_pylist(PREPARED, DATASETS["prepared"].schema())},
}


def tiny(name, root):
    assert name in TINY, f"TINY in test_datasets.py has no files for {name}; add a few, empty ones where it is audio"
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
    for part in parts:
        assert part in names, f"datasets/{name}.py has no {part}; expected {', '.join(parts)}, in this order"
    assert [name for name in names if name in parts] == parts, f"expected {', '.join(parts)}, in this order"
    assert list(inspect.signature(module.clips).parameters) == ["data_dir"]
    assert ast.get_docstring(source), "no docstring; say what it is, how its folds and splits work, what a group is"
    assert all(isinstance(text, str) and text for text in (module.CITATION, module.LICENSE))
    assert isinstance(module.LABELS, tuple), "LABELS is no tuple; write it in round brackets"
    assert all(isinstance(label, str) for label in module.LABELS)
    assert len(set(module.LABELS)) == len(module.LABELS)
    assert not (module.LABELS and datasets.target_names(name))
    assert all(name and isinstance(name, str) for name in datasets.target_names(name))


FILES = sorted(path.stem for path in Path(datasets.__file__).parent.glob("*.py"))


@pytest.mark.parametrize(
    "name", [name for name in FILES if name not in ("__init__", "clip", "groups", "relabelling", "walk")]
)
def test_every_module_is_a_data_set(name):
    assert name in DATASETS, f"DATASETS in datasets/__init__.py does not name {name}; import it there, and add it"


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
        for group, values in sides(clips, attribute).items():
            assert len(values) == 1, f"group {group!r} stands in more than one {attribute}: {values}"


# A manifest names files that it does not look for.
@pytest.mark.parametrize("name", [name for name in DATASETS if name not in ("synthetic", "manifest", "prepared")])
def test_a_clip_whose_file_is_missing_is_refused_or_left_out(name, tmp_path):
    tiny(name, tmp_path)
    for audio in (tmp_path / path for path, content in TINY[name].items() if content == ""):
        audio.unlink()
        with contextlib.suppress(InputError):
            missing = [clip.clip_id for clip in load(name, tmp_path) if not clip.path.exists()]
            assert not missing, f"{missing}: there is no such file; expected an InputError, see `require` in clip.py"
        audio.touch()


def check_clips(name, clips):
    ids = [clip.clip_id for clip in clips]
    assert len(set(ids)) == len(ids), "two clips have the same clip_id"
    assert ids == sorted(ids) or name == "manifest", "the clips are not in the order of their clip_id"
    for clip in clips:
        assert "\\" not in clip.clip_id
        assert name == "manifest" or not Path(clip.clip_id).is_absolute(), f"{clip.clip_id}: not below the folder"
        assert len(clip.targets) == len(datasets.target_names(name))
        assert bool(clip.labels) != bool(clip.targets), f"{clip.clip_id}: expected labels, or targets of a regression"
        unknown = set(clip.labels) - set(DATASETS[name].LABELS)
        assert not (DATASETS[name].LABELS and unknown), f"{clip.clip_id}: {unknown} is not among LABELS"
        assert type(clip.fold) is int, f"{clip.clip_id}: fold is {clip.fold!r}; see `read_fold` in clip.py"
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
    with pytest.raises(InputError, match=r"esc50: .* has no audio/1-5-B-3.wav; .*github.com/karolpiczak.*`download`"):
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


@pytest.mark.parametrize("inside", [True, False])
def test_gtzan_genre(tmp_path, inside):
    clips = load("gtzan_genre", tiny("gtzan_genre", tmp_path) / "genres" if inside else tiny("gtzan_genre", tmp_path))
    assert len(clips) == 11
    assert rows(clips)[:3] == [
        ("blues/blues.00000.wav", ("blues",), -1, "", ""),
        ("blues/blues.00001.au", ("blues",), -1, "", ""),
        ("classical/classical.00000.wav", ("classical",), -1, "", ""),
    ]
    assert clips[1].path == tmp_path / "genres" / "blues" / "blues.00001.au"


@pytest.mark.parametrize("above", [True, False])
def test_gtzan_music_speech(tmp_path, above):
    root = tiny("gtzan_music_speech", tmp_path / "music_speech")
    clips = load("gtzan_music_speech", tmp_path if above else root)
    assert rows(clips) == [
        ("music_wav/bagpipe.wav", ("music",), -1, "", ""),
        ("music_wav/winds.wav", ("music",), -1, "", ""),
        ("speech_wav/voices.wav", ("speech",), -1, "", ""),
    ]
    assert clips[2].path == root / "speech_wav" / "voices.wav"


def test_extended_ballroom(tmp_path):
    clips = load("extended_ballroom", tiny("extended_ballroom", tmp_path))
    assert rows(clips)[0] == ("Chacha/100700.mp3", ("Chacha",), -1, "", "")
    assert label_names(clips, DATASETS["extended_ballroom"].LABELS)[-1] == "Quickstep"
    assert len(clips) == 13


@pytest.mark.parametrize("flat", [True, False])
def test_emomusic(tmp_path, flat):
    root = tiny("emomusic", tmp_path)
    if flat:
        for path in (root / "annotations").iterdir():
            path.rename(root / path.name)
        (root / "annotations").rmdir()
    clips = load("emomusic", root)
    assert rows(clips) == [
        ("clips_45seconds/10.mp3", (), -1, "test", ""),
        ("clips_45seconds/2.mp3", (), -1, "train", ""),
    ]
    assert datasets.target_names("emomusic") == ["arousal", "valence"]
    assert [clip.targets for clip in clips] == [(1.0, 1 / 9), (3.1 / 9, 3 / 9)]
    assert clips[0].path == tmp_path / "clips_45seconds" / "10.mp3"


def test_jamendo_vocals(tmp_path):
    clips = load("jamendo_vocals", tiny("jamendo_vocals", tmp_path))
    assert rows(clips) == [
        ("test/03 - Été.ogg#00002.500", ("nosing",), -1, "test", "test/03 - Été.ogg"),
        ("train/01 - Aur.ogg#00000.000", ("nosing",), -1, "train", "train/01 - Aur.ogg"),
        ("train/01 - Aur.ogg#00009.500", ("sing",), -1, "train", "train/01 - Aur.ogg"),
        ("train/01 - Aur.ogg#00100.250", ("nosing",), -1, "train", "train/01 - Aur.ogg"),
        ("valid/02. Dr. Love.mp3#00000.000", ("sing",), -1, "validation", "valid/02. Dr. Love.mp3"),
    ]
    assert [(clip.start_seconds, clip.duration_seconds) for clip in clips] == [
        (2.5, 0.75),
        (0.0, 9.5),
        (9.5, 90.75),
        (100.25, 19.75),
        (0.0, 1.0),
    ]
    assert clips[1].path == tmp_path / "train" / "01 - Aur.ogg"


def test_jamendo_vocals_with_lists(tmp_path):
    parts = "0 1 sing\n1 2 nosing\n"
    files = {
        **{f"audio/{name}": "" for name in ("01 - Aur.ogg", "02. Dr. Love.mp3", "03.ogg", "04.ogg")},
        **{f"labels/{name}.lab": parts for name in ("01 - Aur", "02. Dr. Love", "03")},
        "filelists/train": "01 - Aur.ogg\n",
        "filelists/valid": "02. Dr. Love\n\n",
        "filelists/test": "03.trs",
    }
    clips = load("jamendo_vocals", write_tree(tmp_path, files))
    assert [(clip.clip_id, clip.labels[0], clip.split) for clip in clips] == [
        ("audio/01 - Aur.ogg#00000.000", "sing", "train"),
        ("audio/01 - Aur.ogg#00001.000", "nosing", "train"),
        ("audio/02. Dr. Love.mp3#00000.000", "sing", "validation"),
        ("audio/02. Dr. Love.mp3#00001.000", "nosing", "validation"),
        ("audio/03.ogg#00000.000", "sing", "test"),
        ("audio/03.ogg#00001.000", "nosing", "test"),
    ]
    write_tree(tmp_path, {"filelists/test": "05.ogg\n"})
    with pytest.raises(InputError, match=r"audio has no '05', which test lists; get it from https"):
        load("jamendo_vocals", tmp_path)
    (tmp_path / "filelists" / "test").unlink()
    with pytest.raises(InputError, match=r"has no filelists/test; get it from https"):
        load("jamendo_vocals", tmp_path)


@pytest.mark.parametrize("folder", ["", "mp3"])
def test_magnatagatune(tmp_path, folder):
    table = TINY["magnatagatune"]["annotations_final.csv"]
    write_tree(tmp_path / folder, TINY["magnatagatune"])
    clips = load("magnatagatune", write_tree(tmp_path, {"annotations_final.csv": table}))
    assert rows(clips) == [
        ("b/band-album-01-song-0-29.mp3", ("techno",), -1, "train", "b/band-album-01-song"),
        ("b/band-album-01-song-30-59.mp3", ("techno",), -1, "train", "b/band-album-01-song"),
        ("c/x-59-88.mp3", ("no vocals",), -1, "validation", "c/x"),
        ("f/band-album-01-song-30-59.mp3", ("guitar", "choral"), -1, "test", "f/band-album-01-song"),
    ]
    assert clips[2].path == tmp_path / folder / "c" / "x-59-88.mp3"


def test_msd_lastfm50(tmp_path):
    assert rows(load("msd_lastfm50", tiny("msd_lastfm50", tmp_path))) == [
        ("1/3/13.clip.mp3", ("Hip-Hop",), -1, "train", ""),
        ("3/6/36122424.clip.mp3", ("rock", "happy"), -1, "train", ""),
        ("4/0/4.wav", ("pop", "00s", "House"), -1, "test", ""),
        ("5/0/5.mp3", ("sad",), -1, "validation", ""),
    ]


def test_msd_lastfm50_opens_no_pickle(tmp_path):
    root = tiny("msd_lastfm50", tmp_path)
    np.save(root / "test_y.npy", np.array([{"rock"}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"test_y.npy: is not a NumPy array of numbers; get it again"):
        load("msd_lastfm50", root)


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
    assert rows(clips) == [
        (elsewhere, ("rock", "loud,noisy"), 0, "train", "x"),
        ((tmp_path / "up.wav").as_posix(), ("jazz",), -1, "", ""),
        ("a.wav", ("jazz",), 12, "test", "y"),
    ]
    assert {clip.path for clip in clips} == {Path(elsewhere), tmp_path / "up.wav", tmp_path / "lists" / "a.wav"}


def test_manifest_of_parts_of_files(tmp_path):
    text = "path,label,start,duration\nb.wav,dog,2.5,1\nb.wav,cat,0.25,\na.wav,dog,,0.5\na.wav,cat,,\n"
    clips = load("manifest", write_tree(tmp_path, {"clips.csv": text}) / "clips.csv")
    assert rows(clips) == [
        ("b.wav#00002.500", ("dog",), -1, "", "b.wav"),
        ("b.wav#00000.250", ("cat",), -1, "", "b.wav"),
        ("a.wav#00000.000", ("dog",), -1, "", "a.wav"),
        ("a.wav", ("cat",), -1, "", "a.wav"),
    ]
    parts = [(clip.start_seconds, clip.duration_seconds) for clip in clips]
    assert parts == [(2.5, 1.0), (0.25, None), (0.0, 0.5), (0.0, None)]
    assert [clip.is_segment for clip in clips] == [True, True, True, False]


def test_manifest_of_parts_keeps_a_file_on_one_side_unless_told(tmp_path):
    text = "path,label,start,split{}\na.wav,dog,0,train{}\na.wav,dog,5,test{}\n"
    write_tree(tmp_path, {"clips.csv": text.format("", "", ""), "named.csv": text.format(",group", ",x", ",y")})
    with pytest.raises(InputError, match=r"row 3: group 'a.wav' is in the splits 'test' and 'train'"):
        load("manifest", tmp_path / "clips.csv")
    assert [clip.group for clip in load("manifest", tmp_path / "named.csv")] == ["x", "y"]


# Each error


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "synthetic"])
def test_a_data_set_needs_a_folder_that_exists(name, tmp_path):
    with pytest.raises(InputError, match=rf"^{name}: .*`data_dir`"):
        load(name)
    with pytest.raises(InputError, match=rf"^{name}: .*nowhere is not a f"):
        load(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", [name for name, module in DATASETS.items() if module.REMOTES])
def test_an_empty_folder_is_told_what_it_lacks_and_where_to_get_it(name, tmp_path):
    with pytest.raises(
        InputError, match=rf"^{name}: .* has no [a-zA-Z0-9_/.]+.*; get .*https://.*`download`\)?$"
    ) as error:
        load(name, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted({*NOT_DOWNLOADABLE} - {"synthetic", "folder", "manifest", "prepared"}))
def test_without_a_download_an_empty_folder_is_told_where_to_get_it(name, tmp_path):
    with pytest.raises(InputError, match=rf"^{name}: .* has no [a-zA-Z0-9_/.]+.*; get .*https?://") as error:
        load(name, tmp_path)
    assert "\n" not in str(error.value)
    assert "`download`" not in str(error.value)


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
        ("speech_commands", {"no/c3_nohash_1.wav": None}, r"no no/c3_nohash_1.wav; get .*`download`"),
        ("speech_commands", {"testing_list.txt": None}, r"no testing_list.txt; get"),
        ("fsdd", {"recordings/seven.wav": ""}, r"seven.wav is not named \{digit\}_\{speaker\}_\{index\}.wav"),
        (
            "fsdd",
            {"recordings/7_ada_4.wav": None, "recordings/7_ada_5.wav": None, "recordings/0_von_der_au_12.wav": None},
            r"recordings has no .wav files; get it from https",
        ),
        ("gtzan_genre", {"genres/pop/pop.00000.wav": None}, r"gtzan_genre: .*pop has no audio \(.wav, .*; get it from"),
        (
            "gtzan_genre",
            {"genres/pop/pop.00000.au": ""},
            r"has pop/pop.00000.au and pop/pop.00000.wav; remove one of them",
        ),
        ("gtzan_music_speech", {"speech_wav/voices.wav": None}, r"speech_wav has no audio .*; get music_speech.tar.gz"),
        ("extended_ballroom", {"Chacha/100700.mp3": None}, r"Chacha has no audio .*; get it with the script"),
        ("emomusic", {"annotations/songs_info.csv": None}, r"no annotations/songs_info.csv; get"),
        ("emomusic", {"clips_45seconds/10.mp3": None}, r"no clips_45seconds/10.mp3; get clips_45seconds and"),
        (
            "emomusic",
            {"annotations/static_annotations.csv": "song_id,mean_arousal\n2,3\n"},
            r"static_annotations.csv: no column 'mean_valence'; found song_id, mean_arousal",
        ),
        (
            "emomusic",
            {"annotations/static_annotations.csv": STATIC_ANNOTATIONS_HEADER + "2,loud,1,3,1\n"},
            r"static_annotations.csv, row 2: mean_arousal is 'loud'; expected a number",
        ),
        (
            "emomusic",
            {"annotations/static_annotations.csv": STATIC_ANNOTATIONS_HEADER + "2,3,1,0.5,1\n"},
            r"row 2: the means are 3 and 0.5; expected 1 to 9",
        ),
        (
            "emomusic",
            {"annotations/static_annotations.csv": STATIC_ANNOTATIONS_HEADER + "4,3,1,5,1\n"},
            r"row 2: song '4' is in no set of annotations/songs_info.csv; expected development or evaluation",
        ),
        ("jamendo_vocals", {"jamendo_lab/01 - Aur.lab": None}, r"no jamendo_lab/01 - Aur.lab; get it from"),
        (
            "jamendo_vocals",
            {"jamendo_lab/01 - Aur.lab": "0 1 sing\n1 2 speech\n"},
            r"01 - Aur.lab, line 2: '1 2 speech' received; expected start and end in seconds, then sing or nosing",
        ),
        ("jamendo_vocals", {"jamendo_lab/01 - Aur.lab": "0 1\n"}, r"line 1: '0 1' received; expected start and end"),
        ("jamendo_vocals", {"jamendo_lab/01 - Aur.lab": "0 x sing\n"}, r"line 1: end is 'x'; expected a number"),
        ("jamendo_vocals", {"jamendo_lab/01 - Aur.lab": "0 inf sing\n"}, r"line 1: end is 'inf'; expected a number"),
        ("jamendo_vocals", {"jamendo_lab/01 - Aur.lab": "3 2 sing\n"}, r"line 1: from 3 to 2 s; expected a start"),
        ("magnatagatune", {"c/x-59-88.mp3": None}, r"magnatagatune: .* has no c/x-59-88.mp3; get annotations_final"),
        (
            "magnatagatune",
            {"annotations_final.csv": "clip_id\tmp3_path\tguitar\n"},
            r"annotations_final.csv: no column 'classical'; found clip_id, mp3_path, guitar",
        ),
        (
            "magnatagatune",
            {"annotations_final.csv": magnatagatune_table(("g/x-0-29.mp3", "rock"))},
            r"row 2: mp3_path is 'g/x-0-29.mp3'; expected a file in one of the folders 0-9 and a-f",
        ),
        ("magnatagatune", {"annotations_final.csv": magnatagatune_table(("", "rock"))}, r"row 2: mp3_path is ''"),
        ("msd_lastfm50", {"valid_y.npy": None}, r"no valid_y.npy; get the lists from https"),
        ("msd_lastfm50", {"4/0/4.wav": None}, r"no 4/0/4.clip.mp3; get the lists .*; the audio is not published"),
        (
            "msd_lastfm50",
            {"valid_y.npy": msd_tags(["sad"], ["rock"])},
            r"valid_y.npy: has shape \(2, 50\); expected \(1, 50\), a row per line of the list beside it",
        ),
        ("folder", {"cat/readme.txt": ""}, r"cat has no audio \(.wav, .flac"),
        ("folder", {"cat/.hidden.wav": ""}, r"cat has no audio"),
        ("manifest", {"clips.csv": "path,class\na.wav,dog\n"}, r"clips.csv: no column 'label'; found path, class"),
        ("manifest", {"clips.csv": ""}, r"no column 'path'; found none"),
        (
            "manifest",
            {"clips.csv": "path;label\na.wav;dog\n"},
            r"no column 'path'; found path;label, separated by ','; add it, or save it as CSV in UTF-8",
        ),
        ("manifest", {"clips.csv": 'path,label\na.wav,"dog\nb.wav,cat\n'}, r"row 2: is no row of a CSV file \(unexp"),
        ("manifest", {"clips.csv": 'path,label\na.wav,"dog\nb.wav",cat\n'}, r"row 3: not the 2 values"),
        ("manifest", {"clips.csv": 'path,label\na.wav,"dog\nb.wav,cat"\n'}, r"row 3: a value goes over several lines"),
        ("manifest", {"clips.csv": "path,label,Fold\na.wav,dog,1\n"}, r"the column 'Fold' is no .* write 'fold', or"),
        ("manifest", {"clips.csv": "path,label,groups\na.wav,dog,1\n"}, r"'groups' is no .* write 'group', or rename"),
        ("manifest", {"clips.csv": "path,label\n"}, r"lists no clips"),
        ("manifest", {"clips.csv": "path,label\na.wav,dog\nb.wav, | \n"}, r"clips.csv, row 3: b.wav has no label"),
        ("manifest", {"clips.csv": "path,label\n,dog\n"}, r"clips.csv, row 2: no path"),
        ("manifest", {"clips.csv": "path,label\na.wav,dog\n\nx/../a.wav,cat\n"}, r"row 4: x/../a.wav is .* twice"),
        ("manifest", {"clips.csv": "path,label\na, b.wav,dog\n"}, r"row 2: not the 2 values the header names"),
        (
            "manifest",
            {"clips.csv": "path,label,label\na.wav,rain,wind\n"},
            r"clips.csv: the column 'label' stands there twice; expected each once; remove one",
        ),
        (
            "manifest",
            {"clips.csv": "path,label,fold\na.wav,dog,999999999999999999999999999999\n"},
            r"row 2: fold is '9{30}'; expected a whole number from 0 to 999999999",
        ),
        (
            "manifest",
            {"clips.csv": "path,label,start\na.wav,dog,1e308\n"},
            r"row 2: start is '1e308'; expected seconds from 0 up, at most a year's",
        ),
        (
            "manifest",
            {"clips.csv": "path,label,duration\na.wav,dog,1e300\n"},
            r"row 2: duration is '1e300'; expected seconds above 0, at most a year's",
        ),
        (
            "manifest",
            {"clips.csv": f"path,label\na.wav,{'x' * 200_000}\n"},
            r"clips.csv, row \d: is no row of a CSV file \(field larger than field limit .*\); repair it",
        ),
        (  # Python 3.10 itself refuses it
            "manifest",
            {"clips.csv": "path,label\na.wav,dog\0\n"},
            r"clips.csv, row \d: (holds a NUL character, which no name has; remove it|is no row .*contains NUL)",
        ),
        (
            "manifest",
            {"clips.csv": "path,label,split\na.wav,dog,devil\n"},
            r"row 2: split is 'devil'; expected train, validation, test or nothing",
        ),
        ("manifest", {"clips.csv": "path,label,fold\na.wav,dog,-1\n"}, r"row 2: fold is '-1'; expected a whole number"),
        ("manifest", {"clips.csv": "path,label,fold\na.wav,dog,1.5\n"}, r"row 2: fold is '1.5'"),
        ("manifest", {"clips.csv": "path,label,start\na.wav,dog,x\n"}, r"row 2: start is 'x'; expected a number"),
        (
            "manifest",
            {"clips.csv": "path,label,start\na.wav,dog,-1\n"},
            r"row 2: start is '-1'; expected seconds from 0 up",
        ),
        (
            "manifest",
            {"clips.csv": "path,label,duration\na.wav,dog,0\n"},
            r"row 2: duration is '0'; expected seconds above 0",
        ),
        ("manifest", {"clips.csv": "path,label,start\na.wav,dog,1\na.wav,cat,1.0\n"}, r"row 3: a.wav is .* twice"),
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
    with pytest.raises(InputError, match=r"'esc-50' is unknown; did you mean esc50\? choose from synthetic, esc10"):
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


@pytest.mark.slow
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
    with pytest.raises(InputError, match=r"fraction: .* is not allowed; expected more than 0 and at most 0.5"):
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


@pytest.mark.parametrize(
    ("url", "why"),
    [("{server}/missing.zip", "404 File not found"), ("http://127.0.0.1:9/esc.zip", "ConnectionError")],
)
def test_download_that_fails_leaves_nothing(url, why, server, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_audio_transfer.download.WAITS", ())
    remote = Remote(url.format(server=server), "md5:" + "0" * 32, "top")
    monkeypatch.setattr(DATASETS["esc50"], "REMOTES", {"ESC-50": remote})
    with pytest.raises(InputError, match=rf"zip could not be downloaded \({why}\); check the network"):
        download("esc50", tmp_path / "new" / "esc", progress=False)
    assert list((tmp_path / "new").iterdir()) == []


def tar_with(path, name="top/bad", **fields):
    """A tar archive of one good file and one member with these fields."""
    with tarfile.open(path, "w:gz") as file:
        file.addfile(tarfile.TarInfo("top/good.txt"))
        member = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(member, field, value)
        file.addfile(member, io.BytesIO(b"x" * member.size))


def zip_with(path, name, content="x"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("top/good.txt", "")
        file.writestr(name, content)


LEADS_OUT, NO_FILE = "which leads out of the folder", "a link or device; expected files and folders"
BAD_ARCHIVES = {
    "tar, above": (lambda a: tar_with(a, "top/../../../evil", size=1), f"holds 'top/../../../evil', {LEADS_OUT}"),
    "tar, absolute": (lambda a: tar_with(a, f"{a.parent}/evil", size=1), f"/evil', {LEADS_OUT}"),
    "tar, link": (lambda a: tar_with(a, type=tarfile.SYMTYPE, linkname="../.."), f"holds 'top/bad', {NO_FILE}"),
    "tar, absolute link": (lambda a: tar_with(a, type=tarfile.SYMTYPE, linkname="/etc"), f"holds 'top/bad', {NO_FILE}"),
    "tar, hard link": (
        lambda a: tar_with(a, type=tarfile.LNKTYPE, linkname="/etc/passwd"),
        f"holds 'top/bad', {NO_FILE}",
    ),
    "tar, device": (lambda a: tar_with(a, type=tarfile.CHRTYPE, devmajor=1), f"holds 'top/bad', {NO_FILE}"),
    "tar, pipe": (lambda a: tar_with(a, type=tarfile.FIFOTYPE), f"holds 'top/bad', {NO_FILE}"),
    "tar, far larger": (lambda a: tar_with(a, size=2**21), "unpacks to more than 50 times its size of "),
    "tar, too large": (lambda a: tar_with(a, size=1000), "unpacks to more than the 999 bytes that are free here"),
    "tar, cut": (lambda a: a.write_bytes(gzip_cut()), "cannot be unpacked ("),
    "tar, none": (lambda a: a.write_bytes(b"no archive"), "cannot be unpacked (ReadError: "),
    "tar, empty name": (lambda a: tar_with(a, "", size=1), "cannot be unpacked (IsADirectoryError: "),
    "tar, below a file": (lambda a: tar_with(a, "top/good.txt/a", size=1), "cannot be unpacked ("),
    "zip, above": (lambda a: zip_with(a, "../../evil"), f"holds '../../evil', {LEADS_OUT}"),
    "zip, absolute": (lambda a: zip_with(a, f"{a.parent}/evil"), f"/evil', {LEADS_OUT}"),
    "zip, of Windows": (lambda a: zip_with(a, "..\\evil"), f"evil', {LEADS_OUT}"),
    "zip, a drive": (lambda a: zip_with(a, "C:evil"), f"holds 'C:evil', {LEADS_OUT}"),
    "zip, far larger": (lambda a: zip_with(a, "top/bad", "0" * 2**21), "unpacks to more than 50 times its size of "),
    "zip, too large": (
        lambda a: zip_with(a, "top/bad", "0" * 1000),
        "unpacks to more than the 999 bytes that are free",
    ),
    "zip, none": (lambda a: a.write_bytes(b"no archive"), "cannot be unpacked (BadZipFile: "),
    "zip, changed": (lambda a: a.write_bytes(zip_changed(a)), "cannot be unpacked (BadZipFile: Bad CRC-32"),
}


def gzip_cut():
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as file:
        member = tarfile.TarInfo("top/a")
        member.size = 10_000
        file.addfile(member, io.BytesIO(np.random.default_rng(0).bytes(member.size)))
    return content.getvalue()[:5000]


def zip_changed(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("top/a", "as it was")
    return path.read_bytes().replace(b"as it was", b"as it is!")


@pytest.mark.parametrize("what", BAD_ARCHIVES)
def test_a_bad_archive_writes_nothing_outside_and_is_refused(what, server, tmp_path, monkeypatch):
    make, message = BAD_ARCHIVES[what]
    archive = tmp_path / "www" / ("esc.zip" if what.startswith("zip") else "esc.tar.gz")
    make(archive)
    checksum = "sha256:" + hashlib.sha256(archive.read_bytes()).hexdigest()
    url = f"{server}/{archive.name}"
    monkeypatch.setattr(DATASETS["esc50"], "REMOTES", {"ESC-50": Remote(url, checksum, "top")})
    if "too large" in what:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=999))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as error:
        download("esc50", tmp_path / "new" / "esc", progress=False)
    assert str(error.value).startswith(f"esc50: {url} ")
    assert message in str(error.value)
    assert str(error.value).endswith("; nothing was kept, get the data by hand")
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "new"])


def test_a_full_disk_is_not_the_archives_fault(server, tmp_path, monkeypatch):
    checksum = pack(tmp_path / "www" / "esc.zip", {"top/a": "a"})
    monkeypatch.setattr(DATASETS["esc50"], "REMOTES", {"ESC-50": Remote(f"{server}/esc.zip", checksum, "top")})

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for function in ("keras_audio_transfer.download._write_member", "pooch.retrieve"):
        monkeypatch.setattr(function, full)
        with pytest.raises(OSError, match="No space left on device"):
            download("esc50", tmp_path / "new" / "esc", progress=False)
        assert [*(tmp_path / "new").iterdir()] == []


def test_download_does_not_touch_data(tmp_path):
    write_tree(tmp_path, {"esc/mine.wav": ""})
    for data_dir in (tmp_path / "esc", tmp_path / "esc" / "mine.wav"):
        with pytest.raises(InputError, match="exists and is not an empty folder"):
            download("esc50", data_dir)
    assert (tmp_path / "esc" / "mine.wav").exists()


@pytest.mark.parametrize("name", NOT_DOWNLOADABLE)
def test_download_where_there_is_nothing(name, tmp_path):
    why = getattr(DATASETS[name], "NO_DOWNLOAD", "there is nothing to download")
    with pytest.raises(InputError) as error:
        download(name, tmp_path / "new")
    assert str(error.value) == f"{name}: cannot be downloaded: {why}; leave `download` out"
    assert not (tmp_path / "new").exists()


def test_what_may_not_be_copied_is_not_downloaded():
    for name, module in DATASETS.items():
        if "all rights reserved" in module.LICENSE:
            assert (module.REMOTES, "all rights" in module.NO_DOWNLOAD) == ({}, True), name


def test_download_of_an_unknown_data_set(tmp_path):
    with pytest.raises(InputError, match="'nosuch' is unknown; choose from"):
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
