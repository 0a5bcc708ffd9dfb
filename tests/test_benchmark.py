"""The benchmark of sources: what it refuses before any work, how features are compared, what ways give."""

import json
import os
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
import tensorflow as tf
from conftest import ROOT, run_main
from sounds import noise

from keras_audio_transfer.audio.loading import load_waveform
from keras_audio_transfer.commands.benchmarks import (
    arithmetic,
    eight_bit,
    gpu,
    growth,
    measuring,
    own_programs,
    probes,
    reading,
    rest,
    segments,
    sources,
)
from keras_audio_transfer.commands.benchmarks.measuring import in_a_process
from keras_audio_transfer.commands.main import module_of
from keras_audio_transfer.datasets import Clip, esc10, load
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export.patchwise import patchwise
from keras_audio_transfer.extractor import load_model
from keras_audio_transfer.feature_tables.table import FeatureTable
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.pretrained import source
from keras_audio_transfer.probing.prober import Prober
from keras_audio_transfer.segments import Segment

PUBLISHED = os.environ.get("KAT_TEST_PRETRAINED")
needs_published = pytest.mark.skipif(not PUBLISHED, reason="KAT_TEST_PRETRAINED does not name a folder")


def write_esc50(root):
    """ESC-50 with one clip a fold."""
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for folder in ("audio", "meta"):
        (root / folder).mkdir(parents=True)
    for fold in range(1, 6):
        soundfile.write(root / f"audio/{fold}.wav", noise(800), 8000)
        rows.append(f"{fold}.wav,{fold},0,dog,True,{fold},A")
    (root / "meta/esc50.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture
def yamnet_folder(tmp_path):
    """What is read of a model folder before any work."""
    Card(source.source("yamnet").config, network="yamnet").write(tmp_path)
    return tmp_path


def test_what_cannot_be_measured_is_refused_first(yamnet_folder, tmp_path):
    write_esc50(tmp_path / "esc")
    here = ["--sources", yamnet_folder, "--esc-dir", tmp_path / "esc"]
    for arguments, why in (
        (here[:2], "--sources: needs files; give ESC-50's folder as --esc-dir"),
        ([*here[2:], "--published-dir", tmp_path], "--published-dir: belongs to --sources; leave it out, or give"),
        ([*here, "--published-dir", tmp_path / "gone"], f"--published-dir: {tmp_path / 'gone'} is no folder; expected"),
        ([*here, "--published-dir", tmp_path], f"{tmp_path / 'yamnet.tflite'}: does not exist; expected the published"),
        (["--segments", yamnet_folder], "--segments: needs files; give ESC-50's folder as --esc-dir"),
        (["--segments", yamnet_folder, *here[2:]], f"--segments: {yamnet_folder} is of other labels; expected a class"),
        ([*here[:2], yamnet_folder, *here[2:]], f"--sources: {yamnet_folder.name} is the name of two folders"),
    ):
        with pytest.raises(InputError) as error:
            run_main("benchmark", *arguments)
        assert str(error.value).startswith(why)


@pytest.mark.slow
def test_extraction_is_measured_for_labelled_clips(tmp_path):
    write_esc50(tmp_path)
    assert in_a_process(reading._extracted, load("esc10", tmp_path), 0.5)["clips_a_second"] > 0


def test_reading_a_prepared_data_set(tmp_path, monkeypatch, capsys):
    write_esc50(tmp_path)
    taken = iter(
        [{"clips_a_second": 2, "core_milliseconds_a_clip": 9}, {"clips_a_second": 6, "core_milliseconds_a_clip": 3}]
    )
    monkeypatch.setattr(reading, "in_a_process", lambda *_: next(taken))
    name = f"esc10:{tmp_path}"
    assert run_main("benchmark", "--reading", name, "--quiet") == 0
    figures = json.loads(capsys.readouterr().out)[f"reading_{name}"]
    assert figures["equal"]
    assert (figures["clips"], figures["megabytes_of_samples"]) == (5, pytest.approx(5 * 1600 * 4 / 1e6))
    assert figures["ratio"] == figures["prepared"]["clips_a_second"] / figures["files"]["clips_a_second"]
    assert (figures["extraction"]["ratio"], figures["extraction"]["ratio_by_time_of_cores"]) == (3, 3)
    preparing = figures["preparing"]
    assert preparing["audio_seconds_a_second"] == pytest.approx(preparing["clips_a_second"] * 0.1)
    with pytest.raises(InputError, match=r"^esc10: no folder given; pass "):
        run_main("benchmark", "--reading", "esc10")


def test_a_computer_without_a_gpu_is_refused(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with pytest.raises(
        InputError, match=r"^--gpu: TensorFlow finds no GPU here; see docs/platforms\.md, or leave it out$"
    ):
        gpu.name_of_gpu()


def test_the_name_of_the_gpu_is_asked_for_once(monkeypatch, capsys):
    """Not once more for each network."""
    asked = []

    def in_its_place(what, *how):
        asked.append(what)
        return "a card" if what is gpu.name_of_gpu else ({"features": 1.0}, {"layer1": np.zeros(2)})

    for module in (gpu, measuring):
        monkeypatch.setattr(module, "in_a_process", in_its_place)
    gpu.card.cache_clear()
    networks = "convnet5:short16k", "resnet18:short16k"
    assert run_main("benchmark", "--gpu", *networks, "--quiet") == 0
    gpu.card.cache_clear()
    figures = json.loads(capsys.readouterr().out)
    assert [figures[f"gpu_{name}"]["name"] for name in networks] == ["a card"] * 2
    assert asked.count(gpu.name_of_gpu) == 1
    assert len(asked) == 1 + 2 * len(gpu.KINDS)


@pytest.mark.slow
def test_all_that_is_measured_on_a_gpu(monkeypatch):
    """With what the CPU gave in the place of what a GPU gives: the figures of each, and their ratios."""
    name, steps, seed = "convnet5:short16k", 1, 0
    measured = in_a_process(gpu.measure, name, gpu.CPU, steps, seed)
    speeds, features = measured
    given = {
        gpu.CPU: measured,
        "gpu": ({what: 2 * value for what, value in speeds.items()}, features),
        "gpu_with_tensor_float_32": (speeds, {**features, "layer5": features["layer5"] + 0.5}),
    }
    monkeypatch.setattr(gpu, "in_a_process", lambda what, *how: "a card" if what is gpu.name_of_gpu else given[how[1]])
    figures = gpu.gpu(SimpleNamespace(steps=steps, seed=seed), name)
    assert [*figures] == ["name", *gpu.KINDS]
    assert figures["name"] == "a card"
    assert [*figures[gpu.CPU]] == [
        *("spectrogram", "features_one_clip_at_a_time", "features"),
        *("training", "training_with_spectrograms_computed_once"),
    ]
    assert min(figures[gpu.CPU].values()) > 0
    twice, as_fast = figures["gpu"], figures["gpu_with_tensor_float_32"]
    assert {*twice["times_as_fast_as_the_cpu"].values()} == {2}
    assert {*as_fast["times_as_fast_as_the_cpu"].values()} == {1}
    assert twice["largest_difference"] == 0
    largest = 0.5 / max(1, np.abs(features["layer5"]).min())
    assert as_fast["largest_difference"] == pytest.approx(largest, rel=1e-5)


def measured_growth(monkeypatch, *arguments):
    """The rows of growth, and the commands that were to be run, without running them."""
    commands = []

    def cost_of(verb, *arguments):
        commands.append((verb, [*map(str, arguments)]))
        return {"seconds": 2.0, "core_seconds": 3.0, "peak_megabytes": 100.0}

    monkeypatch.setattr(growth, "cost_of", cost_of)
    monkeypatch.setattr(growth, "in_a_process", lambda function, *parameters: function(*parameters))
    monkeypatch.setattr(growth, "_cluster", lambda workers: nullcontext(f"tcp://127.0.0.1:{workers}"))
    monkeypatch.setattr(growth, "UNHEARD_TIMES", 3)
    monkeypatch.setattr(growth, "RATE", 800)
    assert run_main("benchmark", *arguments, "--quiet") == 0
    return commands


def test_growth_runs_commands_that_there_are_and_draws_what_they_cost(monkeypatch, tmp_path, capsys):
    sizes = ["--growth-clips", 40, 80, "--recording-minutes", 1, "--output-dir", tmp_path / "curves"]
    commands = measured_growth(monkeypatch, "--growth", "default", *sizes)
    for verb, arguments in commands:
        module_of(verb).arguments().parse_args(arguments)
    of_growth = json.loads(capsys.readouterr().out)["growth"]
    rows = pd.DataFrame(of_growth["rows"])
    assert of_growth["clip_seconds"] == 4.0
    varied = {name: of["value"].tolist() for name, of in rows.groupby(["verb", "varied"])}
    assert varied.pop(("extract", "Dask workers"), [1, 2]) == [1, 2]
    assert varied == {
        **{(verb, "clips"): [40, 80] for verb in ("extract", "prepare", "probe")},
        ("extract", "clips not heard"): [120, 240],
        ("extract", "seconds a clip"): [4, 16, 64],
        ("extract", "minutes of a recording"): [1],
        ("extract", "layers"): [1, 3, 5],
        ("extract", "workers"): [1, 2, 4],
        ("probe", "combinations"): [1, 7, 31],
        ("probe", "jobs"): [1, 2, 4],
    }
    unheard = rows[rows["varied"] == "clips not heard"]
    assert (unheard["output_bytes"] > 120 * 5 * 32 * 4 * 0.01).all()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "curves" / "growth.csv"), rows, check_dtype=False)
    assert (tmp_path / "curves" / "growth.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(InputError, match=r"^--growth-clips: names one number of clips; expected two or more$"):
        run_main("benchmark", "--growth", "default", "--growth-clips", 40, 40)
    with pytest.raises(InputError, match=r"^--output-dir: belongs to --growth; leave it out, or name a model folder$"):
        run_main("benchmark", "--recording-minutes", 1, "--output-dir", tmp_path)


def test_what_growth_makes_is_what_commands_take(tmp_path, capsys):
    sounds = growth._sounds(tmp_path, 4, 0.25, seed=0)
    assert len({load_waveform(clip, 16000).tobytes() for clip in load("folder", sounds)}) == 4
    table = growth._features(tmp_path, 40, seed=0)
    assert run_main("probe", table, "--output-dir", tmp_path / "probe", "--combinations", "layer1") == 0
    assert (tmp_path / "probe" / "scores.csv").is_file()


def test_the_cost_of_a_command():
    cost = measuring.cost_of("models")
    assert cost["core_seconds"] > 0
    assert cost["seconds"] > 0
    assert cost["peak_megabytes"] > 5
    with pytest.raises(InputError, match=r"^nothing: has failed; see its message above$"):
        measuring.cost_of("nothing")


@pytest.mark.parametrize("name", ["decoding", "mfcc", "log_mel"])
def test_the_floor_is_measured(name, monkeypatch, tmp_path):
    monkeypatch.setattr(measuring, "PASSES", 1)
    soundfile.write(tmp_path / "a.wav", noise(8000), 8000)
    assert sources._of_floor(name, [tmp_path / "a.wav"], 1.0, 1)["clips_a_second"] > 0


def test_a_whole_is_compared_with_its_parts_round_by_round(monkeypatch):
    monkeypatch.setattr(measuring, "ROUNDS", 3)
    taken = iter([(3, 6), (1, 2), (1, 2), (8, 4), (2, 1), (2, 1), (90, 3), (1, 2), (2, 2)])
    monkeypatch.setattr(measuring, "_seconds", lambda run, clips: next(taken))
    assert measuring.times_the_sum((len, "ab"), [(len, "a"), (len, "b")]) == [2.0, 1.5]


def test_libsvms_own_time_is_measured():
    labels = np.arange(40) % 2
    layer = noise(40, 3) + labels[:, np.newaxis]
    clips = [Clip(f"{n}", None, ("ab"[label],)) for n, label in enumerate(labels)]
    table = FeatureTable.of_clips({"layer1": layer}, clips, ["a", "b"])
    begin = time.process_time()
    with probes.libsvm_timed() as seconds_of:
        rows = [*Prober(table).rows([("layer1",)])]
    assert 32 < len(seconds_of["fit"]) == len(seconds_of["predict"]) <= 5 * 5 * 32
    assert 0 < sum(map(sum, seconds_of.values())) < time.process_time() - begin
    assert rows == [*Prober(table).rows([("layer1",)])]


def test_segments_are_of_clips_that_were_not_learnt(tmp_path):
    write_esc50(tmp_path / "esc")
    (tmp_path / "predictions.csv").write_text("clip,true\ndog/4.wav,dog\n")
    assert segments.heard_before(tmp_path, tmp_path / "esc") == []
    Card(source.source("yamnet").config, labels=[*esc10.LABELS]).write(tmp_path)
    (tmp_path / "predictions.csv").unlink()
    with pytest.raises(InputError, match=r"has no predictions\.csv, as 'classify' writes it"):
        segments.heard_before(tmp_path, tmp_path / "esc")
    (tmp_path / "predictions.csv").write_text("clip,true\ndog/5.wav,dog\n")
    with pytest.raises(InputError, match=r"^--segments: .* has learnt from 5\.wav, of fold 5; fit it without$"):
        run_main("benchmark", "--segments", tmp_path, "--esc-dir", tmp_path / "esc")


def test_segments_are_compared_with_where_the_clips_are():
    truths = [[Segment(0, 5, "dog", 1.0), Segment(5, 10, "rain", 1.0)], [Segment(0, 5, "dog", 1.0)]]
    found = [[Segment(0.5, 5, "dog", 0.9), Segment(4, 6, "rain", 0.9), Segment(8, 12, "rain", 0.9)], []]
    figures = segments.compared(truths, found, ["dog", "rain"])
    right, said = 4.5 + 1 + 2, 4.5 + 2 + 2  # seconds, to the recording's end
    assert figures["precision"] == pytest.approx(right / said)
    assert figures["recall"] == pytest.approx(right / 15)
    assert figures["f1"] == pytest.approx(2 * right / (said + 15))
    assert (figures["clips"], figures["clips_found"]) == (3, 2)
    assert figures["onset_error_seconds_median"] == pytest.approx((0.5 + 1) / 2)
    assert segments.compared(truths, [[], []], ["dog", "rain"])["onset_error_seconds_median"] is None


def test_why_a_program_is_not_run(monkeypatch, tmp_path):
    monkeypatch.setattr(own_programs, "find_spec", lambda name: None)
    assert own_programs.why_not("yamnet", None, False) == "--published-dir is not given"
    assert own_programs.why_not("yamnet_float", tmp_path, False) == "no program of it is known that runs here"
    assert own_programs.why_not("speech_embedding", tmp_path, False) == "onnxruntime is not installed"
    assert own_programs.why_not("speech_embedding", tmp_path, True) == "onnxruntime and onnx is not installed"
    assert own_programs.why_not("yamnet", tmp_path, True) is None


def test_features_are_compared_relative_to_the_largest_and_in_8_bits_by_correlation():
    ours = [{"layer1": np.float32([1, 2, 5]), "layer2": np.float32([0, 4, -2]), "scores": np.float32([1, 0, 0])}]
    theirs = [{**ours[0], "layer2": np.float32([0.4, 4, -2])}]
    compared = sources._compared(ours, theirs, in_8_bits=False)
    assert compared == {"largest_difference": pytest.approx(0.1), "agrees": False}
    assert sources._compared(ours, ours, in_8_bits=False) == {"largest_difference": 0.0, "agrees": True}
    compared = sources._compared(ours, [{**theirs[0], "scores": np.zeros(3)}], in_8_bits=True)
    assert compared["lowest_correlation"] == pytest.approx(np.corrcoef([0, 4, -2], [0.4, 4, -2])[0, 1])
    assert compared["agrees"]
    assert compared["lowest_correlation_of_any_layer"] == compared["lowest_correlation"]
    assert sources._compared(ours, [{"others": np.zeros(3)}], in_8_bits=False) == {}


def test_speed_is_that_of_the_median_pass(monkeypatch):
    taken = iter([(4, 6), (2, 3), (9, 9), (0.5, 1), (0.25, 1)])
    monkeypatch.setattr(measuring, "_seconds", lambda run, clips: next(taken))
    worked = []
    figures = measuring.speed(worked.append, ["a", "b"], audio_seconds=20, workers=1)
    assert worked == [["a"]]
    assert figures.pop("peak_megabytes") > 10
    assert figures == {
        "clips_a_second": 0.5,
        "audio_seconds_a_second": 5.0,
        "core_milliseconds_a_clip": 3000.0,
        "milliseconds_of_a_clip_alone": 375.0,
    }


@needs_published
@pytest.mark.slow
def test_an_own_program_gives_our_layers():
    network = source.source("yamnet")
    model = source.build(network, network.read(Path(PUBLISHED)))
    program = own_programs.YamnetLite("yamnet", Path(PUBLISHED), all_layers=True)
    waveform = 0.1 * noise(1, 15600 + 7680)
    theirs = program.features(waveform[0])
    ours = {name: values[0].numpy() for name, values in model(waveform).items()}
    assert {*theirs} == {*ours}
    assert sources._compared([ours], [theirs], in_8_bits=True)["lowest_correlation_of_any_layer"] > 0.995
    assert {*own_programs.YamnetLite("yamnet", Path(PUBLISHED), all_layers=False).features(waveform[0])} == {"scores"}


def exact_features(name, waveform):
    """What a network's own program gives, without its roundings."""
    return own_programs.PROGRAMS[name](name, Path(PUBLISHED), all_layers=True).features(waveform, exact=True)


@needs_published
@pytest.mark.slow
@pytest.mark.parametrize("name", ["MSD_musicnn", "MSD_vgg", "speech_embedding"])
def test_float_programs_agree(name):
    if own_programs.why_not(name, Path(PUBLISHED), all_layers=True):
        pytest.skip("needs onnxruntime")
    network = source.source(name)
    # As it is served: the Keras model's mean over all patches of an early layer at once is off by 2e-4 in float32.
    model = patchwise(source.build(network, network.read(Path(PUBLISHED))))
    waveform = 0.1 * noise(1, 100_000)
    theirs = in_a_process(exact_features, name, waveform[0])  # a training in this one may have made it deterministic
    ours = {name: values[0].numpy() for name, values in model(waveform).items()}
    assert {*theirs} == {*ours}
    assert sources._compared([ours], [theirs], in_8_bits=False)["largest_difference"] < sources.LARGEST_DIFFERENCE


@needs_published
@pytest.mark.slow
def test_a_twin_in_8_bits(tmp_path):
    network = source.source("yamnet")
    model = source.build(network, network.read(Path(PUBLISHED)))
    model.save(tmp_path / "model.keras")
    examples = 0.1 * noise(4, 20_000)
    eight_bit.write_twin(tmp_path, network.config, examples, tmp_path)
    features = eight_bit.Twin(tmp_path, network.config).features(examples[0])
    for layer, values in model(examples[:1]).items():
        if layer != "scores":
            assert np.corrcoef(features[layer], values[0])[0, 1] > 0.9, layer


def test_figures_of_all_ways(monkeypatch, tmp_path):
    """Without the measurements, which take minutes: what stands where, and the ratios."""
    write_esc50(tmp_path / "esc")
    Card(source.source("yamnet").config, network="yamnet").write(tmp_path)
    ways = {"_of_floor": 4, "_ours": 2, "_own_program": 1, "_twin": 8}
    alone = {"_operations": 100, "of_matrix_products": 600.0}
    features = [{"layer14": np.arange(3.0)}]

    def measured(function, *parameters):
        if function.__name__ in alone:
            return alone[function.__name__]
        if function.__name__ not in ways:
            return None
        clips = ways[function.__name__]
        figures = {"clips_a_second": clips, "core_milliseconds_a_clip": 1000 / clips}
        if function.__name__ == "_ours":
            return figures, {**figures, "clips_a_second": 3}, features, features
        return figures if function.__name__ == "_of_floor" else (figures, features)

    monkeypatch.setattr(sources, "in_a_process", measured)
    options = SimpleNamespace(
        esc_dir=tmp_path / "esc", clips=3, sources=[tmp_path], published_dir=Path(PUBLISHED or tmp_path)
    )
    figures = json.loads(json.dumps(sources.sources(options)))[tmp_path.name]
    assert figures["own_program_all_layers"]["agrees"]
    assert figures["times_as_fast_as"] == {
        **{"own_program": 2, "own_program_all_layers": 2, "eight_bit_twin": 0.25, "network_alone": 2 / 3},
        **dict.fromkeys(("decoding", "mfcc", "log_mel"), 0.5),
    }
    assert figures["arithmetic"] == {
        "operations_a_clip": 100,
        "times_matrix_products": 0.5,  # 3 clips a second, where 6 are possible
        "at_most_times_as_fast_as": {"own_program": 6, "own_program_all_layers": 6},
    }


def test_operations_are_counted():
    kernel, depthwise, matrix = noise(3, 2, 4, 5), noise(3, 3, 4, 2), noise(7, 5)

    def network(x):  # (2, 9, 8, 4)
        x = tf.nn.relu(x)
        maps = tf.nn.conv2d(x, kernel, 1, "SAME"), tf.nn.depthwise_conv2d(x, depthwise, [1, 1, 1, 1], "VALID")
        rows = tf.reshape(maps[0], (-1, 5))
        return maps, tf.matmul(rows, matrix, transpose_b=True), tf.matmul(x, x, adjoint_b=True)

    positions = 2 * 9 * 8
    expected = positions * 5 * 3 * 2 * 4 + 2 * 7 * 6 * 8 * 3 * 3 + positions * 7 * 5 + positions * 8 * 4
    assert arithmetic.operations(network, 2, 9, 8, 4) == 2 * expected
    with pytest.raises(TypeError):  # a number of frames that nobody knows is no number
        arithmetic.operations(network, 2, None, 8, 4)


def test_the_operations_of_a_networks_clip(tmp_path):
    folder = ROOT / "saved_models/convnet5.urbansound8k"
    soundfile.write(tmp_path / "a.wav", noise(80_000), 16_000)
    network = load_model(folder / "model.keras")
    convolutions = [layer for layer in network.layers if type(layer) is keras.layers.Conv2D]
    maps = keras.Model(network.input, [layer.output for layer in convolutions])(np.zeros((1, 80_000), np.float32))
    products = sum(tf.size(x) * np.prod(layer.kernel.shape[:3]) for layer, x in zip(convolutions, maps, strict=True))
    bands = maps[0].shape[1] * 257 * 64  # frames, frequencies, mels: of the filterbank
    assert sources._operations(folder, [tmp_path / "a.wav"]) == 2 * (int(products) + bands + 64 * 10)  # the head's


def test_a_machine_multiplies():
    assert 1e8 < in_a_process(arithmetic.of_matrix_products, 1) < 1e14


def test_requests_are_timed_for_several_clients():
    made, asked = [], []

    def client():
        made.append(1)
        return lambda: asked.append(1)

    seconds, of_all = rest.timed(client, clients=3, requests=10)
    assert (len(made), len(asked), len(seconds)) == (3, 9, 9)
    assert 0 < max(seconds) < of_all


def test_ways_to_ask_are_compared_with_the_first():
    features, rounds = np.float32([[1, 4]]), []

    def asked(seconds, of_all, difference=0):
        def ask(clients, requests):
            rounds.append(1)
            warm = len(rounds) <= 2
            return [9.0] * 4 if warm else seconds, 36.0 if warm else of_all, features + difference

        return ask

    ways = {"direct": asked([0.1, 0.1, 0.3, 0.1], 0.5), "served": asked([0.2] * 4, 1.0, difference=0.5)}
    figures = rest.compared(ways, clients=1, requests=4)
    assert figures["direct"] == {
        "requests_a_second": pytest.approx(8),
        "milliseconds_median": pytest.approx(100),
        "milliseconds_95th_percentile": pytest.approx(300),
    }
    assert figures["served"]["ratio"] == pytest.approx(0.5)
    assert figures["served"]["largest_difference"] == 0.5
