"""What is written is whole or not there; a features file comes back as it was; a wrong one is refused with a reason."""

import csv
import re
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.feature_table import FeatureTable
from keras_audio_transfer.files import atomic_publish, atomic_write, write_failures, write_json, write_table

# ---- atomic_publish


def test_what_is_added_appears_whole_and_the_rest_stays_in_its_place(tmp_path):
    folder = tmp_path / "served"
    with atomic_publish(folder) as partial:
        (partial / "1").mkdir()
        (partial / "1" / "saved_model.pb").write_text("first")
        (partial / "card.json").write_text("old")
    first, ended, seen = (folder / "1").stat().st_ino, threading.Event(), []

    def poll():  # as a server does
        while not ended.is_set():
            seen.append([path.name for path in folder.iterdir() if path.name.isdecimal()])
            assert (folder / "1" / "saved_model.pb").read_text() == "first"
            if (folder / "2").exists():
                assert len([*(folder / "2").iterdir()]) == 100

    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(poll)
        with atomic_publish(folder) as partial:
            (partial / "2").mkdir()
            for number in range(100):
                (partial / "2" / str(number)).write_text("second")
            (partial / "card.json").write_text("new")
        n_seen = len(seen)
        while len(seen) < n_seen + 2 and not polling.done():
            time.sleep(0.001)
        ended.set()
        polling.result()
    assert (seen[0], sorted(seen[-1])) == (["1"], ["1", "2"])
    assert (folder / "1").stat().st_ino == first
    assert (folder / "card.json").read_text() == "new"
    assert {path.name for path in folder.iterdir()} == {"1", "2", "card.json"}


@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_is_replaced_only_if_told_so(tmp_path, replace):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "old").touch()

    def add():
        with atomic_publish(tmp_path, replace) as partial:
            (partial / "1").mkdir()
            (partial / "1" / "new").touch()

    if replace:
        add()
    else:
        with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path / '1'))}: exists; expected to add it"):
            add()
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["new" if replace else "old"]
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_nothing_is_added_where_the_block_fails(tmp_path):
    with pytest.raises(OSError, match="half way"), atomic_publish(tmp_path) as partial:  # noqa: PT012
        (partial / "2").mkdir()
        raise OSError("half way")
    assert [*tmp_path.iterdir()] == []


# ---- atomic_write


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "deep" / "er" / "a.txt"
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert not path.exists()
        assert partial.parent == path.parent  # the last step is a rename on one disk
    assert path.read_text() == "new"
    assert names_in(path.parent) == ["a.txt"]


def test_a_file_is_replaced_when_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_when_the_new_one_is_complete(tmp_path):
    path = tmp_path / "model"
    for content in ("old", "new"):
        with atomic_write(path) as partial:
            (partial / "1").mkdir(parents=True)
            (partial / "1" / f"{content}.pb").write_text(content)
            assert content == "old" or names_in(path / "1") == ["old.pb"]
    assert names_in(path / "1") == ["new.pb"]
    assert names_in(tmp_path) == ["model"]


class Interrupted(BaseException):
    """As a KeyboardInterrupt: no Exception."""


@pytest.mark.parametrize("error", [ValueError, OSError, Interrupted])
@pytest.mark.parametrize("old", [None, "file", "folder"])
@pytest.mark.parametrize("new", [None, "file", "folder"])
def test_after_an_exception_only_the_old_content_is_left(tmp_path, old, new, error):
    path = tmp_path / "a"
    if old == "file":
        path.write_text("old")
    elif old == "folder":
        path.mkdir()
        (path / "old.txt").write_text("old")
    with pytest.raises(error, match="half way"), atomic_write(path) as partial:  # noqa: PT012
        if new == "file":
            partial.write_text("half")
        elif new == "folder":
            (partial / "sub").mkdir(parents=True)
            (partial / "sub" / "half.txt").write_text("half")
        raise error("half way")
    assert names_in(tmp_path) == ([] if old is None else ["a"])
    if old:
        assert (path if old == "file" else path / "old.txt").read_text() == "old"


@pytest.mark.parametrize("old", ["file", "folder"])
def test_the_old_content_stays_where_nothing_was_written(tmp_path, old):
    path = tmp_path / "a"
    inside = path if old == "file" else path / "old.txt"
    inside.parent.mkdir(exist_ok=True)
    inside.write_text("old")
    with pytest.raises(OSError, match="partial"), atomic_write(path):
        pass
    assert inside.read_text() == "old"
    assert names_in(tmp_path) == ["a"]


@pytest.mark.parametrize(("old", "new"), [("folder", "file"), ("file", "folder")])
def test_a_file_replaces_no_folder_and_a_folder_no_file(tmp_path, old, new):
    path = tmp_path / "a"
    inside = path if old == "file" else path / "old.txt"
    inside.parent.mkdir(exist_ok=True)
    inside.write_text("old")
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: is a {old}; "), atomic_write(path) as partial:  # noqa: PT012
        if new == "folder":
            partial.mkdir()
        else:
            partial.write_text("new")
    assert inside.read_text() == "old"
    assert names_in(tmp_path) == ["a"]


# ---- tables and cards


def test_json_is_readable_text(tmp_path):
    path = tmp_path / "card.json"
    write_json(path, {"labels": ["Käse", "鳥"], "n": 1})
    assert path.read_text(encoding="utf-8") == '{\n  "labels": [\n    "Käse",\n    "鳥"\n  ],\n  "n": 1\n}\n'


def test_json_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "card.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, {"a": 1, "b": object()})
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert names_in(tmp_path) == ["card.json"]


def test_a_table_quotes_what_needs_it(tmp_path):
    path = tmp_path / "table.csv"
    rows = [["a, b", 'said "no"'], ["Käse", "two\nlines"]]
    write_table(path, ["clip", "reason"], rows)
    with path.open(encoding="utf-8", newline="") as file:
        assert [*csv.reader(file)] == [["clip", "reason"], *rows]
    assert b"\r" not in path.read_bytes()


def test_failures_are_listed_beside_the_output(tmp_path):
    output = tmp_path / "out" / "features.npz"
    write_failures(output, [("b.wav", "b.wav: empty file"), ("ä, ö.wav", "ä, ö.wav: truncated; copy it")])
    with (tmp_path / "out" / "failed.csv").open(encoding="utf-8", newline="") as file:
        table = [*csv.reader(file)]
    assert table == [
        ["clip", "reason"],
        ["b.wav", "b.wav: empty file"],
        ["ä, ö.wav", "ä, ö.wav: truncated; copy it"],
    ]


def test_no_failures_no_list(tmp_path):
    output = tmp_path / "features.npz"
    write_failures(output, [])
    assert names_in(tmp_path) == []
    write_failures(output, [("a", "b")])
    write_failures(output, [])  # of an earlier run
    assert names_in(tmp_path) == []


# ---- features files


def layers_of(n_clips):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(n_clips, size)).astype(np.float32) for name, size in (("layer2", 3), ("layer1", 5))}


CLIPS = {
    "single": [
        Clip("a/1.wav", None, ("dog",), fold=1, group="x"),
        Clip("ä/鳥.wav", None, ("cat",), fold=2),
        Clip("c.wav", None, ("dog",), fold=1),
    ],
    "tags": [
        Clip("1", None, ("rock", "loud"), split="train"),
        Clip("2", None, ("jazz",), split="validation"),
        Clip("3", None, (), split="test"),
    ],
    "unlabelled": [Clip("1.wav", None), Clip("2.wav", None)],
    "target": [Clip("1.wav", None, targets=(1 / 3,)), Clip("2.wav", None, targets=(-2.0,))],
    "targets": [Clip("1.wav", None, targets=(1 / 3, 4.0)), Clip("2.wav", None, targets=(-2.0, 1e-9))],
}
LABEL_NAMES = {
    "single": ["cat", "dog"],
    "tags": ["jazz", "loud", "rock"],
    "unlabelled": [],
    "target": ["arousal"],
    "targets": ["arousal", "valence"],
}
LABELS = {
    "single": [1, 0, 1],
    "tags": [[0, 1, 1], [1, 0, 0], [0, 0, 0]],
    "unlabelled": [-1, -1],
    "target": [1 / 3, -2.0],
    "targets": [[1 / 3, 4.0], [-2.0, 1e-9]],
}
LABELS_TYPE = {kind: np.float64 if "target" in kind else np.int64 for kind in CLIPS}
FOLDS = {kind: [clip.fold for clip in clips] for kind, clips in CLIPS.items()}
SPLITS = {kind: [clip.split for clip in clips] for kind, clips in CLIPS.items()}


def features_of(kind):
    return FeatureTable.of_clips(layers_of(len(CLIPS[kind])), CLIPS[kind], LABEL_NAMES[kind])


@pytest.mark.parametrize("kind", CLIPS)
def test_what_clips_say_of_themselves(kind):
    features = features_of(kind)
    assert features.clip_ids.tolist() == [clip.clip_id for clip in CLIPS[kind]]
    assert features.labels.tolist() == LABELS[kind]
    assert features.labels.dtype == LABELS_TYPE[kind]
    assert features.folds.dtype == np.int64
    assert features.folds.tolist() == FOLDS[kind]
    assert features.splits.tolist() == SPLITS[kind]


@pytest.mark.parametrize("kind", CLIPS)
def test_features_come_back_as_they_were(tmp_path, kind):
    features = features_of(kind)
    path = tmp_path / "new" / "features.npz"
    features.save(path)
    assert names_in(path.parent) == ["features.npz"]
    loaded = FeatureTable.load(path)
    assert [*loaded.layers] == ["layer2", "layer1"]  # in order of depth, not of name
    for name, values in features.layers.items():
        assert loaded.layers[name].dtype == np.float32
        np.testing.assert_array_equal(loaded.layers[name], values)
    assert loaded.label_names == LABEL_NAMES[kind]
    assert loaded.labels.tolist() == LABELS[kind]
    assert loaded.labels.dtype == LABELS_TYPE[kind]
    assert loaded.folds.dtype == np.int64
    assert loaded.folds.tolist() == FOLDS[kind]
    assert loaded.splits.tolist() == SPLITS[kind]
    assert loaded.clip_ids.tolist() == [clip.clip_id for clip in CLIPS[kind]]


@pytest.mark.parametrize("kind", CLIPS)
def test_nothing_is_pickled(tmp_path, kind):
    features_of(kind).save(tmp_path / "features.npz")
    with np.load(tmp_path / "features.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    about = {"layer_names", "clip_ids", "labels", "label_names", "folds", "splits"}
    assert arrays.keys() == {"layer1", "layer2"} | about
    assert {array.dtype.kind for array in arrays.values()} <= set("fiU")
    assert arrays["layer_names"].tolist() == ["layer2", "layer1"]


def test_lists_are_saved_as_text_too(tmp_path):
    features = features_of("single")
    features.clip_ids, features.splits = [*features.clip_ids], np.array(["", "", ""], dtype=object)
    features.save(tmp_path / "features.npz")
    assert FeatureTable.load(tmp_path / "features.npz").splits.tolist() == ["", "", ""]


def test_doubles_are_saved_as_float32(tmp_path):
    features = features_of("single")
    features.layers = {name: values.astype(np.float64) for name, values in features.layers.items()}
    features.save(tmp_path / "features.npz")
    assert {values.dtype for values in FeatureTable.load(tmp_path / "features.npz").layers.values()} == {np.dtype("f4")}


SOURCE = "expected what scripts/extract.py or scripts/mfcc.py writes"


def expect_error(path, reason):
    return pytest.raises(InputError, match=f"^{re.escape(str(path))}: {reason}$")


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_load_of_no_file(tmp_path, what):
    path = tmp_path / "gone.npz" if what == "missing" else tmp_path
    is_what = {"missing": "does not exist", "folder": "is a folder"}[what]
    with expect_error(path, f"{is_what}; expected a features file; make one with scripts/extract.py"):
        FeatureTable.load(path)


def truncated(path):
    features_of("single").save(path)
    path.write_bytes(path.read_bytes()[:-100])


def damaged(path):
    features_of("single").save(path)
    content = bytearray(path.read_bytes())
    at = content.index(np.float32(layers_of(3)["layer1"][1]).tobytes())
    content[at] ^= 255
    path.write_bytes(content)


def array(path):
    with path.open("wb") as file:  # np.save would add .npy to the path
        np.save(file, np.zeros((3, 4)))


def pickled(path):
    with path.open("wb") as file:
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def compressed_and_damaged(path):
    np.savez_compressed(path, clip_ids=np.arange(1000))
    content = bytearray(path.read_bytes())
    content[100:300] = bytes(200)
    path.write_bytes(content)


def encrypted(path):
    features_of("single").save(path)
    content = path.read_bytes()
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the flag in each header
        start = content.index(signature) + at
        content = content[:start] + b"\1" + content[start + 1 :]
    path.write_bytes(content)


NOT_FEATURES = {
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("clip,label\n"),
    "array": array,
    "pickled": pickled,
    "truncated": truncated,
    "damaged": damaged,
    "compressed and damaged": compressed_and_damaged,
    "encrypted": encrypted,
    "objects": lambda path: np.savez(path, clip_ids=np.array(["a", None], dtype=object)),
}


@pytest.mark.parametrize("what", NOT_FEATURES)
def test_load_of_something_else(tmp_path, what):
    path = tmp_path / "features.npz"
    NOT_FEATURES[what](path)
    with expect_error(path, rf"not a features file \(.npz\), or damaged; {SOURCE}"):
        FeatureTable.load(path)


def test_a_file_that_may_not_be_read_is_not_called_something_else(tmp_path, monkeypatch):
    (tmp_path / "features.npz").touch()

    def refuse(path, **settings):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(PermissionError):
        FeatureTable.load(tmp_path / "features.npz")


def saved_with(path, **changes):
    """A features file of three clips with other arrays in it; None removes one."""
    features_of("single").save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays.update(changes)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize(
    "name", ["clip_ids", "labels", "label_names", "folds", "splits", "layer_names", "layer1", "layer2"]
)
def test_load_without_an_array(tmp_path, name):
    path = saved_with(tmp_path / "features.npz", **{name: None})
    with expect_error(path, f"has no array '{name}'; {SOURCE}"):
        FeatureTable.load(path)


def test_load_of_another_zip_file(tmp_path):
    path = tmp_path / "features.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("clip_ids", "no array")
    with expect_error(path, f"'clip_ids' is no array; {SOURCE}"):
        FeatureTable.load(path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("labels", np.zeros(2, np.int64)),
        ("folds", np.zeros(4, np.int64)),
        ("splits", np.array(["", ""])),
        ("layer1", np.zeros((2, 5), np.float32)),
    ],
)
def test_load_of_unequal_lengths(tmp_path, name, array):
    path = saved_with(tmp_path / "features.npz", **{name: array})
    with expect_error(path, f"'{name}' has {len(array)} rows; expected 3, one a clip"):
        FeatureTable.load(path)


TEXTS, WHOLE = "texts in one dimension", "whole numbers in one dimension"
NUMBERS, LAYER = "numbers, a row a clip", "numbers of shape (clips, channels)"


@pytest.mark.parametrize(
    ("name", "array", "expected"),
    [
        *(("layer1", np.zeros(shape, np.float32), LAYER) for shape in ((), (3,), (3, 5, 1))),
        *(("layer1", np.zeros((3, 5), kind), LAYER) for kind in (complex, bool, str)),
        *((name, np.zeros((), str), TEXTS) for name in ("layer_names", "label_names", "clip_ids", "splits")),
        *((name, np.zeros(3), TEXTS) for name in ("layer_names", "label_names", "clip_ids", "splits")),
        ("clip_ids", np.array([["a"], ["b"], ["c"]]), TEXTS),
        ("splits", np.array([["train"]] * 3), TEXTS),
        *(("folds", np.array(values), WHOLE) for values in (1, [[1]] * 3, [1.0] * 3, [np.nan] * 3, ["1"] * 3)),
        *(("labels", np.array(values), NUMBERS) for values in (1, [[[1]]] * 3, [True] * 3, ["dog"] * 3)),
    ],
    ids=str,
)
def test_load_of_arrays_of_another_kind(tmp_path, name, array, expected):
    path = saved_with(tmp_path / "features.npz", **{name: array})
    found = f"'{name}' is {array.dtype} of shape {array.shape}; expected {expected}"
    with expect_error(path, re.escape(found)):
        FeatureTable.load(path)


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("layer1", np.zeros((3, 0), np.float32), "'layer1' has no channels; expected at least one"),
        ("layer_names", np.array([], str), f"'layer_names' names no layer; expected at least one; {SOURCE}"),
        ("layer_names", np.array(["layer1", "layer1"]), "'layer_names' names layer1 twice; expected each once"),
        ("clip_ids", np.array(["b", "a", "b"]), "'clip_ids' names b twice; expected each once"),
    ],
)
def test_load_of_nothing_or_of_the_same_twice(tmp_path, name, array, reason):
    path = saved_with(tmp_path / "features.npz", **{name: array})
    with expect_error(path, reason):
        FeatureTable.load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_load_of_features_that_are_not_finite(tmp_path, value):
    values = np.zeros((3, 5), np.float32)
    values[1, 4] = value
    path = saved_with(tmp_path / "features.npz", layer1=values)
    with expect_error(path, "'layer1' holds NaN or infinite values, first for ä/鳥.wav; extract it again"):
        FeatureTable.load(path)
