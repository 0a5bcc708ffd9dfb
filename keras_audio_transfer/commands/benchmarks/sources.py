"""Published networks: files to all layers by our way and by their own programs, the floor, and an 8-bit twin."""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from keras_audio_transfer.commands.benchmarks import arithmetic, eight_bit, own_programs
from keras_audio_transfer.commands.benchmarks.measuring import in_a_process, speed, times_the_sum
from keras_audio_transfer.datasets.clip import Clip
from keras_audio_transfer.model_folder import Card

COMPARED = 16  # clips whose features are compared
EXAMPLES = 20  # clips on which ranges of 8 bits are found
LARGEST_DIFFERENCE = 1e-4  # relative to a layer's largest value, of networks in float
LOWEST_CORRELATION = 0.995  # of the last layer's features, with a network in 8 bits
IN_8_BITS = ("yamnet",)
_HAVE_A_TWIN = ("yamnet", "yamnet_float")


def sources(options):
    """The figures of every source, and of the floor, on the first clips of ESC-10."""
    import soundfile

    from keras_audio_transfer.datasets import load

    cores = os.cpu_count() or 1
    every_path = [clip.path for clip in load("esc10", options.esc_dir)]
    paths, examples = every_path[: options.clips], every_path[-EXAMPLES:]
    given = paths, sum(soundfile.info(path).duration for path in paths), cores
    figures = {"clips": len(paths), "audio_seconds": given[1]}
    floor = figures["floor"] = {name: in_a_process(_of_floor, name, *given) for name in ("decoding", "mfcc", "log_mel")}
    products = figures["operations_a_second_of_matrix_products"] = in_a_process(arithmetic.of_matrix_products, cores)
    for model_dir in options.sources:
        of_source = _of_source(model_dir, options.published_dir, examples, given, floor)
        of_source["arithmetic"] = _arithmetic(of_source, in_a_process(_operations, model_dir, paths), products)
        figures[model_dir.resolve().name] = of_source
    return figures


def _of_source(model_dir, published_dir, examples, given, floor):
    """Of one source; each way in a process of its own."""
    network = Card.read(model_dir).network
    figures = {}
    figures["ours"], network_alone, ours, of_whole_patches = in_a_process(_ours, model_dir, *given)
    for all_layers in (False, True):
        name = "own_program_all_layers" if all_layers else "own_program"
        why = own_programs.why_not(network, published_dir, all_layers)
        if why:
            figures[name] = {"not_run": why}
            continue
        if all_layers and own_programs.PROGRAMS[network].gives_all_layers:
            continue  # as it has just been run
        figures[name], theirs = in_a_process(_own_program, network, published_dir, all_layers, *given)
        figures[name] |= _compared(of_whole_patches, theirs, network in IN_8_BITS)
    if network in _HAVE_A_TWIN:
        with tempfile.TemporaryDirectory() as folder:
            in_a_process(_write_twin, model_dir, examples, Path(folder))
            figures["eight_bit_twin"], theirs = in_a_process(_twin, Path(folder), model_dir, *given)
            figures["eight_bit_twin"] |= _compared(ours, theirs, in_8_bits=True)
    figures["network_alone"] = network_alone
    others = {name: of for name, of in {**figures, **floor}.items() if name != "ours" and "not_run" not in of}
    figures["times_as_fast_as"] = {
        name: figures["ours"]["clips_a_second"] / other["clips_a_second"] for name, other in others.items()
    }
    figures["times_as_fast_as_by_time_of_cores"] = {
        name: other["core_milliseconds_a_clip"] / figures["ours"]["core_milliseconds_a_clip"]
        for name, other in others.items()
    }
    return figures


def _arithmetic(figures, operations, of_matrix_products):
    """How near our network is to all that the cores can multiply and add, and how fast nobody's can be.

    Args:
        figures: of one source.
        operations: of its network for a clip.
        of_matrix_products: what the cores do in a second.
    """
    at_most = of_matrix_products / operations  # clips a second
    own = {name: figures[name] for name in ("own_program", "own_program_all_layers") if name in figures}
    return {
        "operations_a_clip": operations,
        "times_matrix_products": figures["network_alone"]["clips_a_second"] / at_most,
        "at_most_times_as_fast_as": {
            name: at_most / of["clips_a_second"] for name, of in own.items() if "not_run" not in of
        },
    }


def _compared(ours, theirs, in_8_bits):
    """How much the features differ, in the layers that both have.

    Args:
        ours, theirs: for each clip, layer -> features.
        in_8_bits: whether theirs are, and can only correlate.
    """
    layers = [name for name in ours[0] if name in theirs[0] and (name != "scores" or not in_8_bits)]
    if not layers:
        return {}
    if in_8_bits:
        pairs = [[(a[name], b[name]) for a, b in zip(ours, theirs, strict=True)] for name in layers]
        lowest = [float(min(np.corrcoef(a, b)[0, 1] for a, b in of_layer)) for of_layer in pairs]
        figures = {"lowest_correlation": lowest[-1], "lowest_correlation_of_any_layer": min(lowest)}
        return {**figures, "agrees": lowest[-1] > LOWEST_CORRELATION}
    differences = []
    for name in layers:
        a, b = (np.stack([of_clip[name] for of_clip in of_clips]) for of_clips in (ours, theirs))
        differences.append(float(np.abs(a - b).max() / np.abs(b).max()))
    return {"largest_difference": max(differences), "agrees": max(differences) < LARGEST_DIFFERENCE}


# ---- each of these runs in a process of its own


def _of_floor(name, paths, audio_seconds, workers):
    from keras_audio_transfer.audio.loading import load_waveform, ordered_map
    from keras_audio_transfer.mfcc import FLOORS, LOG_MEL

    def decode(clips):
        for _ in ordered_map(lambda clip: load_waveform(clip, LOG_MEL.sample_rate), clips, workers):
            pass

    run = decode if name == "decoding" else lambda clips: FLOORS[name](clips, [], workers)
    return speed(run, _clips(paths), audio_seconds, workers)


def _clips(paths):
    return [Clip(str(path), path) for path in paths]


def _ours(model_dir, paths, audio_seconds, workers):
    """Figures of `extract` and of the network alone; features of some clips, whole and cut to whole patches."""
    from keras_audio_transfer.audio.loading import crop_or_pad, load_for, ordered_map
    from keras_audio_transfer.extraction import SavedExtractor, extract, use_one_thread_a_clip
    from keras_audio_transfer.model_folder import latest_saved_model

    card = Card.read(model_dir)
    use_one_thread_a_clip(workers)
    extractor = SavedExtractor(latest_saved_model(model_dir))

    def waveform_of(clip):
        waveform = load_for(clip, card.audio).waveform
        return crop_or_pad(waveform, card.audio.least_samples, card.audio.short_clips, card.audio.long_clips)

    def features(waveform):
        return {name: values[0] for name, values in extractor(waveform[np.newaxis]).items()}

    def whole_way(some):
        extract(extractor, card.layer_names, some, [], card.audio, workers)

    def decoding(some):
        for _ in ordered_map(waveform_of, some, workers):
            pass

    def network(waveforms):
        for _ in ordered_map(features, waveforms, workers):
            pass

    clips = _clips(paths)
    waveforms = [*map(waveform_of, clips)]
    figures, alone = (speed(*way, audio_seconds, workers) for way in ((whole_way, clips), (network, waveforms)))
    times = times_the_sum((whole_way, clips), [(decoding, clips), (network, waveforms)])
    figures |= zip(("times_the_floor", "times_the_floor_by_time_of_cores"), times, strict=True)
    figures["feature_bytes_a_clip"] = sum(
        values.nbytes for name, values in features(waveforms[0]).items() if name in card.layer_names
    )
    compared = waveforms[:COMPARED]
    names = [*card.layer_names, *(["scores"] if card.labels else [])]  # in order of depth
    whole, cut = (
        [{name: of_clip[name] for name in names} for of_clip in map(features, some)]
        for some in (compared, [_cut(waveform, card.audio) for waveform in compared])
    )
    return figures, alone, whole, cut


def _operations(model_dir, paths):
    """Of the network, for the first clip."""
    from keras_audio_transfer.audio.loading import load_for
    from keras_audio_transfer.extractor import load_model
    from keras_audio_transfer.model_folder import keras_file

    config = Card.read(model_dir).audio
    n_samples = len(load_for(*_clips(paths[:1]), config).waveform)
    return arithmetic.of_network(load_model(keras_file(model_dir)), config, n_samples)


def _cut(waveform, config):
    """To whole patches: what else there is, our way fills up with zeros, and others leave out."""
    zeros = config.zeros_behind(len(waveform))
    return waveform[: len(waveform) + zeros - config.patch_hop_samples] if zeros else waveform


def _on_every_core(programs, audio_seconds, paths):
    """Figures of programs that work side by side, each on one core."""
    idle = SimpleQueue()
    for program in programs:
        idle.put(program)

    def of_one(path):
        program = idle.get()
        program.of_file(path)
        idle.put(program)

    def run(some):
        for _ in pool.map(of_one, some):
            pass

    with ThreadPoolExecutor(len(programs)) as pool:
        return speed(run, paths, audio_seconds, len(programs))


def _own_program(network, published_dir, all_layers, paths, audio_seconds, workers):
    """Figures, and features of some clips, cut to whole patches."""
    from keras_audio_transfer.audio.loading import load_waveform
    from keras_audio_transfer.pretrained.source import source

    new = own_programs.PROGRAMS[network]
    programs = [new(network, published_dir, all_layers) for _ in range(workers)]
    figures = {"how": new.how, **_on_every_core(programs, audio_seconds, paths)}
    config = source(network).config
    waveforms = [_cut(load_waveform(clip, config.sample_rate), config) for clip in _clips(paths[:COMPARED])]
    return figures, [programs[0].features(waveform, exact=True) for waveform in waveforms]


def _write_twin(model_dir, paths, folder):
    from keras_audio_transfer.audio.loading import load_waveform

    config = Card.read(model_dir).audio
    examples = [load_waveform(clip, config.sample_rate) for clip in _clips(paths)]
    eight_bit.write_twin(model_dir, config, examples, folder)


def _twin(folder, model_dir, paths, audio_seconds, workers):
    """Figures, and features of some clips."""
    from keras_audio_transfer.audio.loading import load_waveform

    config = Card.read(model_dir).audio
    twins = [eight_bit.Twin(folder, config) for _ in range(workers)]
    figures = _on_every_core(twins, audio_seconds, paths)
    figures["megabytes"] = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    waveforms = [load_waveform(clip, config.sample_rate) for clip in _clips(paths[:COMPARED])]
    return figures, [twins[0].features(waveform) for waveform in waveforms]
