"""Transfer learning on audio with Keras: every layer of a network as a named feature.

    >>> import numpy as np
    >>> import keras_audio_transfer as kat
    >>> model = kat.load_model()  # the one that comes with the package, or the path of a model folder
    >>> sine = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
    >>> model.features(sine, 44100)["layer5"].shape
    (64,)

What is listed here is the public interface: `load_model`, `Model`, `extract`, `FeatureTable`, `probe`, `LayerFeatures`,
`audio_dataset`, `AudioConfig`, `datasets` and `InputError`. It is imported when it is first used, so that
`import keras_audio_transfer` takes no time.

Keras only loads a model whose layers are registered. Importing this package therefore registers kapre's layers and ours
with Keras: at once where Keras is there already, else as soon as somebody imports it. Not earlier, because most of the
package works without TensorFlow, whose import takes seconds.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

from keras_audio_transfer.errors import InputError

if TYPE_CHECKING:
    from keras_audio_transfer import datasets
    from keras_audio_transfer.api import audio_dataset, extract, probe
    from keras_audio_transfer.config import AudioConfig
    from keras_audio_transfer.feature_tables.table import FeatureTable
    from keras_audio_transfer.layer_features import LayerFeatures
    from keras_audio_transfer.model import Model, load_model

__version__ = "0.1.0"
__all__ = [
    "AudioConfig",
    "FeatureTable",
    "InputError",
    "LayerFeatures",
    "Model",
    "__version__",
    "audio_dataset",
    "datasets",
    "extract",
    "load_model",
    "probe",
]

# Name -> the module that it is imported from when it is first used.
_LAZY = {
    "AudioConfig": "config",
    "FeatureTable": "feature_tables.table",
    "LayerFeatures": "layer_features",
    "Model": "model",
    "audio_dataset": "api",
    "extract": "api",
    "load_model": "model",
    "probe": "api",
}


if not TYPE_CHECKING:  # to a type checker, a name that is not above does not exist

    def __getattr__(name: str) -> Any:
        if name == "datasets":
            return import_module(f"{__name__}.datasets")
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)


_FRAMEWORKS = ("kapre", "tensorflow", "keras")  # they import one another


def _register_layers() -> None:
    import_module("keras_audio_transfer.layers")


class _RegisterLayersWithKeras:
    """An import hook: lets the frameworks and our modules be imported as usual, and registers the layers afterwards.

    Afterwards is when the outermost of them is done: our modules import the frameworks, and the layers our modules,
    which have to be whole by then.
    """

    depth = 0

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _FRAMEWORKS and not fullname.startswith(f"{__name__}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        loader: Any = None if spec is None else spec.loader
        if loader is not None:
            exec_module = loader.exec_module
            loader.exec_module = lambda module: self.exec_then_register(exec_module, module)
        return spec

    def exec_then_register(self, exec_module: Callable[[ModuleType], None], module: ModuleType) -> None:
        self.depth += 1
        try:
            exec_module(module)
        finally:
            self.depth -= 1
        if self.depth == 0 and "keras" in sys.modules:
            sys.meta_path.remove(self)
            _register_layers()


if "keras" in sys.modules:
    _register_layers()
else:
    sys.meta_path.insert(0, _RegisterLayersWithKeras())
