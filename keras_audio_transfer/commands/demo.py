"""Try a model on a page in the browser: drop a recording or record one, and see its labels.

    keras-audio-transfer demo saved_models/mine
    keras-audio-transfer demo default --port 8000 --max-seconds 60

Needs Gradio: pip install 'keras_audio_transfer[demo]'. The page is for this machine, unless --host says otherwise, and
fetches nothing from elsewhere. It has no passwords: with --host 0.0.0.0 whoever reaches this machine can use it, and
browsers allow them no microphone, because there is no HTTPS. Ctrl-C ends it.

Long recordings are heard in windows, whose scores become segments, as by `predict --hop-seconds`. Of others the page
names the clips most like them, of those that `classify --keep-examples` kept; with --sounds they can be played.
"""

import os
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path

from keras_audio_transfer import datasets, examples
from keras_audio_transfer.answers import limits_of
from keras_audio_transfer.commands import addresses, cli
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.model_folder import SCORES, Card

INSTALL = "pip install 'keras_audio_transfer[demo]'"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def arguments():
    parser = cli.parser(__doc__)
    cli.add_model_argument(parser, "model folder with scores")
    addresses.add_arguments(parser, 7860)
    parser.add_argument("--top", type=cli.positive_int, metavar="N", default=5, help="labels that are shown")
    parser.add_argument("--hop-seconds", type=cli.hop, metavar="S", help="between windows (default: half a window)")
    parser.add_argument(
        "--known-at-least",
        type=cli.fraction,
        metavar="P",
        help="of models that say how much a sound is like their training sounds (1: very, 0: not at all): where that "
        "is lower, the page says that it is unlike all of them (default: the model's, 0.02)",
    )
    text = "the folder (or manifest) that the model was made of, to play the clips that are most like a sound"
    parser.add_argument("--sounds", type=Path, metavar="FOLDER", help=text)
    parser.add_argument(
        "--max-file-mib", type=cli.positive_int, metavar="N", default=100, help="larger files are refused"
    )
    parser.add_argument(
        "--max-seconds", type=cli.seconds, metavar="S", default=600.0, help="longer recordings are heard up to here"
    )
    parser.add_argument(
        "--max-waiting",
        type=cli.positive_int,
        metavar="N",
        default=8,
        help="sounds in the queue; one is heard at a time",
    )
    return parser


def check(options):
    """Refuse what cannot be served, before TensorFlow and Gradio are imported."""
    card = Card.read(options.model_dir)
    card.meaning_of_scores(options.model_dir)
    card.require_single_clips(options.model_dir, "a file alone does not have")
    kept = examples.read(options.model_dir, card)
    sounds = {} if options.sounds is None else sounds_of(options, kept)
    if find_spec("gradio") is None:
        raise InputError(f"demo: needs Gradio; {INSTALL}")
    listener, _ = addresses.listening(options.host, options.port)
    with listener:  # Gradio makes its own
        options.port = listener.getsockname()[1]
    return card, kept, sounds


def sounds_of(options, kept):
    """Clip id -> clip, of the examples that are there."""
    if kept is None:
        remedy = "leave it out, or make the model with 'classify --keep-examples N'"
        raise InputError(f"--sounds: {options.model_dir} keeps no examples, which could be played; {remedy}")
    names = {*map(str, kept.table.clip_ids)}
    sounds = {clip.clip_id: clip for clip in datasets.load_own(options.sounds) if clip.clip_id in names}
    if not sounds:
        what = f"has none of the {len(names)} clips that {options.model_dir} keeps"
        raise InputError(f"--sounds: {options.sounds} {what}; name the folder that the model was made of")
    return sounds


def loaded(options):
    """The model, ready to answer."""
    from keras_audio_transfer.model import load_model

    model = load_model(options.model_dir)
    if SCORES not in model.saved_model.names:
        raise InputError(f"{options.model_dir}: its SavedModel returns no scores; expected a classifier")
    return model


def serve(options, model, limits, stopped, **nearest):
    """Serve the page until `stopped` is set. What was uploaded is in a folder of its own, which goes with the page.

    `nearest`: `examples` and `sounds` of the page.
    """
    from keras_audio_transfer.servers.demo_page import build

    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_RUN_HISTORY": "False",
            "GRADIO_TEMP_DIR": folder,
            "NO_PROXY": "*",  # Gradio asks for its own page when it is up, which no proxy can answer
        }
        names = ("top", "max_file_mib", "max_seconds", "hop_seconds")
        page = build(model, limits=limits, **{name: getattr(options, name) for name in names}, **nearest)
        page.queue(max_size=options.max_waiting, api_open=False)
        page.launch(
            server_name=f"[{options.host}]" if ":" in options.host else options.host,
            server_port=options.port,
            share=False,
            max_file_size=options.max_file_mib * 2**20,
            prevent_thread_lock=True,
            quiet=True,
            footer_links=[],
            enable_monitoring=False,
            ssr_mode=False,
        )
        cli.show(f"{page.local_url} is the page of {options.model_dir}; Ctrl-C ends it")
        stopped.wait()
        page.close(verbose=False)


@cli.command(arguments)
def main(options):
    card, kept, sounds = check(options)
    stopped = threading.Event()
    addresses.at_end(stopped.set)
    cli.say_licences(options, card)
    limits = limits_of(card)
    if options.known_at_least is not None:
        limits["known_at_least"] = options.known_at_least
    if options.host not in LOOPBACK:
        cli.say(options, f"--host: whoever reaches {options.host} can use the page; it asks for no password")
    serve(options, loaded(options), limits, stopped, examples=kept, sounds=sounds)
    return cli.DONE
