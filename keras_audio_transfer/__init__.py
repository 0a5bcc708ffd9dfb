"""Transfer learning on audio with Keras: every layer of a network as a named feature.

Keras only loads a model whose layers are registered. Importing this package therefore registers kapre's layers and ours
with Keras: at once where Keras is there already, else as soon as somebody imports it. Not earlier, because `datasets`,
`mfcc` and `probes` work without TensorFlow, whose import takes seconds.
"""

import sys
from importlib import import_module
from importlib.machinery import PathFinder

_FRAMEWORKS = ("kapre", "tensorflow", "keras")  # they import one another


def _register_layers():
    import_module("keras_audio_transfer.layers")


class _RegisterLayersWithKeras:
    """An import hook: lets the frameworks and our modules be imported as usual, and registers the layers afterwards.

    Afterwards is when the outermost of them is done: our modules import the frameworks, and the layers our modules,
    which have to be whole by then.
    """

    depth = 0

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in _FRAMEWORKS and not fullname.startswith(f"{__name__}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            exec_module = spec.loader.exec_module
            spec.loader.exec_module = lambda module: self.exec_then_register(exec_module, module)
        return spec

    def exec_then_register(self, exec_module, module):
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
