"""A SavedModel behind TensorFlow Serving's REST interface, without TensorFlow Serving: an ASGI application."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from keras_audio_transfer.extraction import load_saved_model
from keras_audio_transfer.servers.request_batching import Batcher
from keras_audio_transfer.servers.rest_messages import Refused, read_question, write_answer

_SECONDS_TO_SEND = 60  # that a client has for the body of a request
_MOST_WAITING = 256  # requests
_MOST_HELD = 4  # largest requests that all requests together may take the room of
# HTTP's status for TensorFlow's error code, as TensorFlow Serving's `http_server.cc` has it; 500 for the others.
_STATUS = {3: 400, 4: 504, 5: 404, 8: 429, 9: 400, 11: 400, 12: 501, 14: 503}


class ServedModel:
    """A SavedModel's signatures, by name, and what TensorFlow Serving says of them.

    Args:
        saved_model: the folder that holds `saved_model.pb`; its name is the version.

    Attributes:
        version: the version.
        types: signature -> the NumPy types of its inputs by name; object for strings.
        signature_def: the signatures, as the metadata describe them.

    Raises:
        InputError: see `extraction.load_saved_model`.
    """

    def __init__(self, saved_model: Path):
        self._loaded = load_saved_model(saved_model)  # owns the variables
        self.version = saved_model.name
        content = saved_model_pb2.SavedModel.FromString((saved_model / "saved_model.pb").read_bytes())
        (graph,) = (graph for graph in content.meta_graphs if "serve" in graph.meta_info_def.tags)
        known = {name: graph.signature_def[name] for name in self._loaded.signatures}
        self.types = {
            name: {key: np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype) for key, info in signature.inputs.items()}
            for name, signature in known.items()
        }
        self.signature_def = {name: _described(signature) for name, signature in known.items()}

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of a signature by name. Raises Refused with what the graph says of inputs that it refuses."""
        try:
            outputs = self._loaded.signatures[signature](**{name: tf.constant(v) for name, v in inputs.items()})
            return {name: values.numpy() for name, values in outputs.items()}
        except tf.errors.OpError as error:
            said = re.search(r"assertion failed: .*|(?<=<stack traces unavailable>\n).+", error.message)
            message = said[0] if said else error.message.strip().partition("\n")[0]
            raise Refused(_STATUS.get(error.error_code, 500), message) from error


def _described(signature):
    def tensors(infos):
        return {
            name: {
                "dtype": types_pb2.DataType.Name(info.dtype),
                "tensor_shape": {
                    "dim": [{"size": str(dim.size), "name": dim.name} for dim in info.tensor_shape.dim],
                    "unknown_rank": info.tensor_shape.unknown_rank,
                },
                "name": info.name,
            }
            for name, info in infos.items()
        }

    inputs, outputs = tensors(signature.inputs), tensors(signature.outputs)
    return {"inputs": inputs, "outputs": outputs, "method_name": signature.method_name, "defaults": {}}


class _Endpoints:
    """What answers requests; the methods named in `build_app`'s routes."""

    def __init__(self, model: ServedModel, name: str, batcher: Batcher, max_request_bytes: int):
        self.model, self.name, self.batcher, self.max_request_bytes = model, name, batcher, max_request_bytes
        self._held = 0  # bytes of the bodies of all requests

    async def predict(self, request: Request) -> Response:
        self._check_place(request)
        body = bytearray()
        try:
            await asyncio.wait_for(self._read(request, body), _SECONDS_TO_SEND)
            with self.batcher.coming():
                return await _unless_gone(request, self._answer(body))
        except asyncio.TimeoutError as error:
            raise Refused(408, f"the body of the request did not come within {_SECONDS_TO_SEND} s") from error
        finally:
            self._held -= len(body)

    async def status(self, request: Request) -> Response:
        self._check_place(request)
        status = {"error_code": "OK", "error_message": ""}
        version = {"version": self.model.version, "state": "AVAILABLE", "status": status}
        return JSONResponse({"model_version_status": [version]})

    async def metadata(self, request: Request) -> Response:
        self._check_place(request)
        spec = {"name": self.name, "signature_name": "", "version": self.model.version}
        signatures = {"signature_def": {"signature_def": self.model.signature_def}}
        return JSONResponse({"model_spec": spec, "metadata": signatures})

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def _check_place(self, request):
        name, version = request.path_params["name"], request.path_params.get("version")
        if name != self.name or version not in (None, self.model.version):
            what = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise Refused(404, f"Servable not found for request: {what[:200]}")

    async def _read(self, request, body):
        """Add the body of a request to `body`, as it comes."""
        most = self.max_request_bytes
        too_large = Refused(413, f"the request is larger than {most} bytes; send less at a time")
        if int(request.headers.get("content-length", 0)) > most:
            raise too_large
        async for chunk in request.stream():
            body += chunk
            self._held += len(chunk)
            if len(body) > most:
                raise too_large
            if self._held > _MOST_HELD * most:
                raise Refused(503, "the requests that wait take all the room there is for them; ask again later")

    async def _answer(self, body):
        question = await self.batcher.in_thread(read_question, body, self.model.types)
        outputs = await self.batcher.ask(question.signature, question.inputs)
        content = await self.batcher.in_thread(write_answer, outputs, question.in_rows)
        return Response(content, media_type="application/json")


async def _unless_gone(request, work):
    """What the coroutine `work` returns; it is cancelled when the client closes the connection."""
    work, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        work.cancel()
        gone.cancel()


def build_app(
    model: ServedModel,
    name: str,
    *,
    threads: int = 2,
    max_request_bytes: int = 64 * 2**20,
    max_batch: int = 32,
    batch_wait_seconds: float = 0.005,
) -> Starlette:
    """The application, for any ASGI server.

    It answers `POST /v1/models/NAME:predict`, `GET /v1/models/NAME` and `GET /v1/models/NAME/metadata` as TensorFlow
    Serving does (https://www.tensorflow.org/tfx/serving/api_rest), also with `/versions/N` behind the name, and
    `GET /healthz` with `{"status": "ok"}`. Errors are `{"error": "..."}`.

    Args:
        model: what to serve.
        name: the name of the model in the addresses.
        threads: requests that are computed at the same time.
        max_request_bytes: of a request's body; four times as many for all that wait.
        max_batch: rows that are computed in one call, where several requests have rows of one shape; see `Batcher`.
        batch_wait_seconds: the longest that a request waits for others.

    Example:
        uvicorn.run(build_app(ServedModel(Path("saved_models/urban/1")), "urban"), port=8501)
    """
    batcher = Batcher(model.run, threads, max_batch, batch_wait_seconds, _MOST_WAITING)
    endpoints = _Endpoints(model, name, batcher, max_request_bytes)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        batcher.close()

    routes = [Route("/healthz", endpoints.health)]
    for place in ("/v1/models/{name}", "/v1/models/{name}/versions/{version}"):
        routes += [
            Route(f"{place}:predict", endpoints.predict, methods=["POST"]),
            Route(f"{place}/metadata", endpoints.metadata),
            Route(place, endpoints.status),
        ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            Refused: _refused,
            HTTPException: _no_such_place,
            ClientDisconnect: _nobody,
            MemoryError: _no_memory,
            Exception: _bug,
        },
    )


def _error(status, message):
    return JSONResponse({"error": message}, status)


def _refused(request, error):
    return _error(error.status, str(error))


def _no_such_place(request, error):
    """TensorFlow Serving's answer to what has the form of no request."""
    return _error(
        400 if request.url.path.startswith("/v1/") else 404, f"Malformed request: {request.method} {request.url.path}"
    )


def _nobody(request, error):
    return Response(status_code=499)  # as proxies log it; there is nobody to read it


def _no_memory(request, error):
    return _error(503, "not enough memory; send less at a time")


def _bug(request, error):
    return _error(500, f"internal error: {type(error).__name__}")
