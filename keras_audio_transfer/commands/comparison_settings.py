"""What a comparison is made of, which is written beside its scores: what goes on with it, and what is another one."""

from keras_audio_transfer.commands import probe
from keras_audio_transfer.datasets.clip import digest
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.model_folder import Card
from keras_audio_transfer.probing.layer_selection import METHODS, single
from keras_audio_transfer.probing.layer_weights import CHANNELS
from keras_audio_transfer.resume import check_settings, read_settings
from keras_audio_transfer.splits import FINGERPRINT

CONFIG = "config.json"
BEST, *_ = WAYS = ("best", *(name for name in METHODS if METHODS[name] is not single))
CARDS = "cards_sha256"  # the setting that holds what the sources' answers depend on
PER_SOURCE = ("sources", CARDS)  # the settings with a value a source
DEFAULTS = {"combinations": BEST, "layer_weights": CHANNELS}  # as they were before there was a choice


def settings_of(options, sources, files, clips):
    """What a run that is continued must have in common with the one that was killed."""
    cards = {name: path and Card.read(path) for name, path in sources.items()}
    of_sources = {name: card and card.weights_sha256 for name, card in cards.items()}
    settings = {"sources": of_sources | {name: probe.sha256(path) for name, path in files.items()}}
    settings |= {"dataset": options.dataset, "clips": len(clips), "seed": options.seed, "join": options.join}
    settings |= {FINGERPRINT: digest(clips), CARDS: {name: card and card.fingerprint() for name, card in cards.items()}}
    return settings | {name: value for name in DEFAULTS if (value := getattr(options, name)) != DEFAULTS[name]}


def sources_before(options, settings, files):
    """Write the settings of a new comparison, or find which of its sources were compared in this folder already.

    Args:
        options: of the command.
        settings: of this run, as `settings_of` gives them.
        files: name -> file, of the sources that are features files.

    Raises:
        InputError: the folder has another comparison, or one of more sources; it says all that differs.
    """
    path = options.output_dir / CONFIG
    there = read_settings(path) if path.exists() else settings
    before = there.get("sources")
    if isinstance(before, dict) and before:
        also = [name for name in before if name not in settings["sources"]]
        found = [*_of_options(there, settings), *_of_sources(there, settings, files)]
        if found:
            what = "; ".join([*found, *([f"it also has {_listed(also)}"] if also else [])])
            remedy = "make this as it was, or choose another place"
            raise InputError(f"--output-dir: {options.output_dir} has another comparison: {what}; {remedy}")
        if also:
            what = f"also has {_listed(also)}; name {'these' if len(also) > 1 else 'it'}, too"
            raise InputError(f"--output-dir: {options.output_dir} {what}, or choose another place")
    else:  # damaged, as the check below says
        before = settings["sources"]
    shared = {key: {name: value for name, value in settings[key].items() if name in before} for key in PER_SOURCE}
    check_settings(path, settings | shared, added=[FINGERPRINT, CARDS])
    return [*before]


def _of_options(there, now):
    """What two comparisons do not share of all their sources, in a few words each."""
    flags = {"dataset": "--dataset", "clips": "the number of clips", "seed": "--seed"}
    flags |= {name: f"--{name.replace('_', '-')}" for name in DEFAULTS}
    values = [(flag, *(of.get(name, DEFAULTS.get(name)) for of in (there, now))) for name, flag in flags.items()]
    found = [f"{flag} was {_brief(was)}, is {_brief(is_now)}" for flag, was, is_now in values if was != is_now]
    was, is_now = there.get("join"), now["join"]
    if was != is_now:
        found.append("--join was given, is left out" if was else "--join was left out, is given")
    new = [name for name in now["sources"] if name not in there["sources"]]
    if is_now and (new or not was):
        found.append(f"with --join a comparison cannot grow{f' by {_listed(new)}' if new else ''}")
    of_clips = FINGERPRINT in there and there[FINGERPRINT] != now[FINGERPRINT]
    if of_clips and all(there.get(name) == now[name] for name in ("dataset", "clips")):
        found.append("the clips have changed (their labels or folds, or their files)")
    return found


def _of_sources(there, now, files):
    """What two comparisons do not share of sources that both have, in a few words each."""
    from keras_audio_transfer.study.study_file import TWIN

    def changed(key):
        was, is_now = there.get(key), now[key]
        return [name for name in is_now if isinstance(was, dict) and was.get(name, is_now[name]) != is_now[name]]

    weights = changed("sources")
    answers = [name for name in changed(CARDS) if name not in weights]
    kinds = {
        "the weights of {} have changed": [name for name in weights if name not in files],
        "the features of {} have changed": [name for name in weights if name in files],
        "the network, pooling or front end of {} has changed": answers,
    }
    for what, names in kinds.items():
        # A network with random weights changes with the one that it is of.
        if of := [name for name in names if name.removesuffix(TWIN) == name or name.removesuffix(TWIN) not in names]:
            yield what.format(_listed(of))


def _listed(names):
    """Names as a sentence has them; those of several words in quotes."""
    *most, last = [repr(name) if " " in name else name for name in names]
    return f"{', '.join(most)} and {last}" if most else last


def _brief(value):
    return str(value)[:60]
