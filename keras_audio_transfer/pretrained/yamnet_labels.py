"""The names of YAMNet's scores, as `yamnet_label_list.txt` in the published TensorFlow Lite file has them.

They are the classes of AudioSet without six, which its authors left out of the training.
"""

from keras_audio_transfer.pretrained import audioset_labels

_LEFT_OUT = (
    *("Male speech, man speaking", "Female speech, woman speaking", "Battle cry"),
    *("Male singing", "Female singing", "Funny music"),
)
LABELS = tuple(label for label in audioset_labels.LABELS if label not in _LEFT_OUT)
