"""TensorFlow without Keras, which a SavedModel does not need: in half the time, and three quarters of the memory."""

import sys

# What TensorFlow imports last, and with it Keras, scikit-learn, pandas and matplotlib. Where it cannot, it goes on, and
# whoever needs Keras later imports it as ever.
_OPTIMIZERS = "keras.src.optimizers"

if _OPTIMIZERS in sys.modules:
    import tensorflow as tf
else:
    sys.modules[_OPTIMIZERS] = None  # type: ignore[assignment] # an import of it fails
    try:
        import tensorflow as tf  # noqa: F401
    finally:
        del sys.modules[_OPTIMIZERS]
