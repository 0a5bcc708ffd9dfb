"""A stand-in for TensorFlow Serving: its REST and gRPC messages, its reading of JSON, the C API behind them.

What it does is what tensorflow/serving does in `util/json_tensor.cc` and `servables/tensorflow/predict_util.cc`: a
request is turned into tensors by the signature, fed unchecked, and the error of the graph is the answer's.
"""

import base64
import json
import re
import threading
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from c_api import Session
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


class Refused(Exception):
    """A request that cannot be answered."""


def signatures_of(saved_model):
    """The signatures of the MetaGraph under the tag `serve`, as a server reads them."""
    content = saved_model_pb2.SavedModel.FromString((Path(saved_model) / "saved_model.pb").read_bytes())
    (graph,) = (graph for graph in content.meta_graphs if "serve" in graph.meta_info_def.tags)
    return {name: signature for name, signature in graph.signature_def.items() if not name.startswith("__")}


def request_by_tensor(signature, inputs):
    """Inputs by name -> a request as `c_api` takes it, and the names of the outputs that it fetches, in that order."""
    outputs = sorted(signature.outputs)
    return (
        {signature.inputs[name].name: value for name, value in inputs.items()},
        [signature.outputs[name].name for name in outputs],
    ), outputs


class Model:
    """A SavedModel and what it answers."""

    def __init__(self, name, saved_model):
        self.name, self.signatures, self.session = name, signatures_of(saved_model), Session(saved_model)
        self.lock = threading.Lock()

    def signature(self, name):
        if name not in self.signatures:
            raise Refused(f'Serving signature name: "{name}" not found in signature def')
        return self.signatures[name]

    def predict(self, signature_name, inputs):
        signature = self.signature(signature_name)
        if {*inputs} != {*signature.inputs}:
            raise Refused(f"input size does not match signature: {sorted(inputs)} != {sorted(signature.inputs)}")
        request, names = request_by_tensor(signature, inputs)
        with self.lock:
            try:
                return dict(zip(names, self.session.run(*request), strict=True))
            except RuntimeError as error:
                raise Refused(str(error)) from error

    def metadata(self):
        signatures = {
            name: json_format.MessageToDict(signature, preserving_proto_field_name=True)
            for name, signature in self.signatures.items()
        }
        spec = {"name": self.name, "version": "1"}
        return {"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}}

    def predict_json(self, body):
        signature_name = body.get("signature_name", "serving_default")
        specs = self.signature(signature_name).inputs
        if not specs:
            raise Refused(f"Failed to get input map for signature: {signature_name}")
        if "instances" in body:
            rows = body["instances"]
            named = all(isinstance(row, dict) and [*row] != ["b64"] for row in rows)
            if not named and len(specs) > 1:
                raise Refused("instances is a plain list, but expecting list of objects")
            lone = next(iter(specs))
            values = {name: [row[name] for row in rows] if named else rows for name in (specs if named else [lone])}
        else:
            values = body["inputs"]
            if not isinstance(values, dict):
                values = {next(iter(specs)): values}
        outputs = self.predict(signature_name, {name: tensor(values[name], specs[name].dtype) for name in values})
        plain = {name: [*map(as_json, values)] for name, values in outputs.items()}
        if "instances" not in body:
            return {"outputs": plain if len(plain) > 1 else next(iter(plain.values()))}
        if len({len(values) for values in plain.values()}) > 1:
            raise Refused("inconsistent batch size")
        if len(plain) == 1:
            return {"predictions": next(iter(plain.values()))}
        return {"predictions": [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]}


def tensor(value, dtype):
    if dtype == tf.string.as_datatype_enum:
        return [base64.b64decode(item["b64"]) if isinstance(item, dict) else item.encode() for item in value]
    try:
        return np.array(value, dtype=tf.as_dtype(dtype).as_numpy_dtype)
    except ValueError as error:
        raise Refused(f"Encountered list at unexpected size ({error})") from error


def as_json(value):
    if isinstance(value, bytes):
        return value.decode()
    return [*map(as_json, value)] if value.dtype == object else value.tolist()


@contextmanager
def rest_server(model):
    """The address of a REST server for a Model."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status, content):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict", self.path)
            if not found or found[1] != model.name or found[2] not in (None, "1"):
                return self.answer(404, {"error": f"Servable not found for request: {self.path}"})
            try:
                return self.answer(200, model.predict_json(json.loads(body)))
            except Refused as error:
                return self.answer(400, {"error": str(error)})

        def do_GET(self):
            return self.answer(200, model.metadata())

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


@contextmanager
def grpc_server(model):
    """The address of a gRPC server for a Model."""

    class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            if request.model_spec.name != model.name or request.model_spec.version.value not in (0, 1):
                context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {request.model_spec.name}")
            inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            inputs = {name: v.tolist() if v.dtype == object else v for name, v in inputs.items()}
            try:
                outputs = model.predict(request.model_spec.signature_name, inputs)
            except Refused as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            answer = predict_pb2.PredictResponse()
            for name, values in outputs.items():
                answer.outputs[name].CopyFrom(tf.make_tensor_proto(values))
            return answer

    server = grpc.server(futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"grpc://localhost:{port}"
    server.stop(None)
