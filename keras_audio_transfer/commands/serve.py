"""Serve a model folder over HTTP, as TensorFlow Serving's REST interface does, without Docker.

    keras-audio-transfer serve saved_models/mine
    keras-audio-transfer serve saved_models/mine --name sounds --host 0.0.0.0 --port 8080

Needs pip install 'keras_audio_transfer[server]'. The latest version in the folder is served; one that is added later is
not noticed. Requests and answers are those of TensorFlow Serving: POST /v1/models/NAME:predict, GET /v1/models/NAME and
/v1/models/NAME/metadata; /healthz says that the server runs. Requests whose rows have one shape and that come at about
the same time are computed together, those for files one by one. When the server is ready, it prints its address; ctrl-C
or SIGTERM ends it, with exit code 0.
"""

import argparse
import importlib.util
import re

from keras_audio_transfer.commands import addresses, cli
from keras_audio_transfer.errors import InputError
from keras_audio_transfer.export.tf_serving import example_requests, served_name
from keras_audio_transfer.model_folder import Card, latest_saved_model

_SECONDS_TO_END = 10  # for the requests that are being answered


def url_name(text):
    if not re.fullmatch("[A-Za-z0-9_.-]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} cannot stand in a URL; expected letters, digits, '_', '.' and '-'")
    return text


def arguments():
    parser = cli.parser(__doc__)
    cli.add_model_argument(parser, "model folder to serve")
    parser.add_argument(
        "--name", type=url_name, metavar="NAME", help="of the model in the address (default: the folder's)"
    )
    addresses.add_arguments(parser, 8501)
    parser.add_argument(
        "--max-request-mib", type=cli.positive_int, metavar="N", default=64, help="the largest request, in MiB"
    )
    parser.add_argument(
        "--max-batch",
        type=cli.positive_int,
        metavar="N",
        default=32,
        help="rows computed in one call; 1 joins no requests",
    )
    wait = cli.number(float, lambda value: 0 <= value <= 10000, "0 to 10000 milliseconds")
    parser.add_argument(
        "--batch-wait-ms", type=wait, metavar="MS", default=5.0, help="the longest that a request waits to be joined"
    )
    parser.add_argument(
        "--jobs",
        type=cli.at_a_time,
        metavar="N",
        default=2,
        help="requests computed at the same time, a thread each",
    )
    return parser


def check_installed():
    missing = [name for name in ("orjson", "starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"serve: needs {', '.join(missing)}; pip install 'keras_audio_transfer[server]'")


@cli.command(arguments)
def main(options):
    check_installed()
    card, saved_model = Card.read(options.model_dir), latest_saved_model(options.model_dir)
    card.require_single_clips(options.model_dir, "a server puts together anew")
    listener, address = addresses.listening(options.host, options.port)
    with listener:
        import uvicorn

        from keras_audio_transfer.extraction import use_one_thread_a_clip
        from keras_audio_transfer.servers.rest_server import ServedModel, build_app

        use_one_thread_a_clip(options.jobs)
        model = ServedModel(saved_model)
        for signature, inputs in example_requests(card.audio):  # the first call of each takes long
            if signature in model.types:
                model.run(signature, inputs)
        name = options.name or served_name(options.model_dir)
        app = build_app(
            model,
            name,
            threads=options.jobs,
            max_request_bytes=options.max_request_mib * 2**20,
            max_batch=options.max_batch,
            batch_wait_seconds=options.batch_wait_ms / 1000,
        )
        config = uvicorn.Config(
            app, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=_SECONDS_TO_END
        )
        addresses.at_end(lambda: None)  # uvicorn ends at these signals, and then raises them once more
        cli.show(f"serving {model.version} of {options.model_dir} at {address}/v1/models/{name}")
        uvicorn.Server(config).run(sockets=[listener])
    return cli.DONE
