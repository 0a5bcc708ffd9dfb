"""A SavedModel through TensorFlow's C API, as TF Serving loads it: ctypes and NumPy, no Python of TensorFlow's.

    python tests/c_api.py SAVED_MODEL REQUESTS.pickle ANSWERS.pickle

A request is a pair: the inputs by tensor name (NumPy arrays, or lists of bytes), and the names of the tensors to fetch.
An answer is a list of arrays (of bytes objects for strings), or the message of the error. One session answers them all.
"""

import ctypes
import importlib.util
import pickle
import sys
from pathlib import Path

import numpy as np

_DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64, 10: np.bool_}
_STRING, _BYTES_OF_A_STRING = 7, 24  # TF_STRING, sizeof(TF_TString)


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


def _library():
    """libtensorflow_cc of the installed wheel, found without importing it."""
    folder = Path(importlib.util.find_spec("tensorflow").origin).parent
    library = ctypes.CDLL(str(next(folder.glob("libtensorflow_cc.so*"))))
    pointers = [
        "TF_NewStatus TF_NewSessionOptions TF_NewGraph TF_LoadSessionFromSavedModel TF_GraphOperationByName",
        "TF_AllocateTensor TF_TensorData TF_StringGetDataPointer",
    ]
    for name in " ".join(pointers).split():
        getattr(library, name).restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    for name in ("TF_Dim", "TF_StringGetSize"):
        getattr(library, name).restype = ctypes.c_int64
    return library


class Session:
    """The MetaGraph of a SavedModel under the tag `serve`, with its variables."""

    def __init__(self, saved_model):
        self.library = _library()
        self.status = ctypes.c_void_p(self.library.TF_NewStatus())
        self.graph = ctypes.c_void_p(self.library.TF_NewGraph())
        options = ctypes.c_void_p(self.library.TF_NewSessionOptions())
        tags = (ctypes.c_char_p * 1)(b"serve")
        session = self.library.TF_LoadSessionFromSavedModel(
            options, None, str(saved_model).encode(), tags, 1, self.graph, None, self.status
        )
        self.check()
        self.session = ctypes.c_void_p(session)

    def check(self):
        if self.library.TF_GetCode(self.status):
            raise RuntimeError(self.library.TF_Message(self.status).decode())

    def run(self, inputs, fetches):
        """The fetched tensors' values. Raises RuntimeError with TensorFlow's message."""
        feeds = [self.tensor(value) for value in inputs.values()]
        results = (ctypes.c_void_p * len(fetches))()
        places = self.outputs(inputs), (ctypes.c_void_p * len(feeds))(*feeds), len(feeds)
        wanted = self.outputs(fetches), results, len(fetches)
        self.library.TF_SessionRun(self.session, None, *places, *wanted, None, 0, None, self.status)
        for feed in feeds:
            self.library.TF_DeleteTensor(ctypes.c_void_p(feed))
        self.check()
        return [self.value(ctypes.c_void_p(result)) for result in results]

    def outputs(self, names):
        found = []
        for name in names:
            operation, index = name.split(":")
            found.append(_Output(self.library.TF_GraphOperationByName(self.graph, operation.encode()), int(index)))
        return (_Output * len(found))(*found)

    def tensor(self, value):
        is_text = isinstance(value, list)
        value = np.array(value, dtype=object) if is_text else np.asarray(value, order="C")
        number = _STRING if is_text else next(n for n, dtype in _DTYPES.items() if dtype == value.dtype)
        n_bytes = value.size * _BYTES_OF_A_STRING if is_text else value.nbytes
        dims = (ctypes.c_int64 * value.ndim)(*value.shape)
        tensor = self.library.TF_AllocateTensor(number, dims, value.ndim, ctypes.c_size_t(n_bytes))
        data = self.library.TF_TensorData(ctypes.c_void_p(tensor))
        if not is_text:
            ctypes.memmove(data, value.ctypes.data, value.nbytes)
            return tensor
        for i, content in enumerate(value.ravel()):
            place = ctypes.c_void_p(data + i * _BYTES_OF_A_STRING)
            self.library.TF_StringInit(place)
            self.library.TF_StringCopy(place, content, ctypes.c_size_t(len(content)))
        return tensor

    def value(self, tensor):
        shape = [self.library.TF_Dim(tensor, i) for i in range(self.library.TF_NumDims(tensor))]
        data, number = self.library.TF_TensorData(tensor), self.library.TF_TensorType(tensor)
        if number == _STRING:
            texts = np.empty(int(np.prod(shape)), dtype=object)
            for i in range(texts.size):
                place = ctypes.c_void_p(data + i * _BYTES_OF_A_STRING)
                start, size = self.library.TF_StringGetDataPointer(place), self.library.TF_StringGetSize(place)
                texts[i] = ctypes.string_at(start, size)
            result = texts.reshape(shape)
        else:
            result = np.empty(shape, dtype=_DTYPES[number])
            ctypes.memmove(result.ctypes.data, data, result.nbytes)
        self.library.TF_DeleteTensor(tensor)
        return result


def main(saved_model, requests, answers):
    session = Session(saved_model)
    results = []
    for inputs, fetches in pickle.loads(Path(requests).read_bytes()):
        try:
            results.append(session.run(inputs, fetches))
        except RuntimeError as error:
            results.append(str(error))
    loaded = {"tensorflow", "keras", "kapre", "keras_audio_transfer"} & {*sys.modules}
    if loaded:
        raise RuntimeError(f"imported {loaded}; expected the C API alone")
    Path(answers).write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
