"""Which of a network's layers are asked for, and what their channels are called. Without TensorFlow."""

from collections.abc import Iterable, Mapping

from keras_audio_transfer.audio.arrays import as_list
from keras_audio_transfer.config import shown
from keras_audio_transfer.errors import InputError, unknown


def selected_layers(layers: str | Iterable[str] | None, there: Iterable[str]) -> list[str]:
    """The layers asked for, in the order asked for; None for all that are there.

    Args:
        layers: names in a list, an array or any iterable that has an order; or one name.
        there: the layers that there are, in their order.

    Raises:
        InputError: none, an unknown one, one twice, or no names.

    >>> selected_layers(("layer2", "layer1"), ["layer1", "layer2"])
    ['layer2', 'layer1']
    """
    known = [*there]
    listed = known if layers is None else as_list(layers, "layers")
    if isinstance(listed, bytes | set | frozenset) or not isinstance(listed, Iterable):
        said = shown(layers)
        raise InputError(f"layers: {said} is not allowed; expected names of layers in order, or None for all")
    names = [listed] if isinstance(listed, str) else [*listed]
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise unknown("layers", name, known)
    if not names:
        raise InputError(f"layers: is empty; expected some of {', '.join(known) or 'none'}, or None for all")
    if len({*names}) < len(names):
        raise InputError(f"layers: {shown(names)} names a layer twice; expected each once")
    return [*map(str, names)]


def check_joinable(name: str, where: str) -> None:
    """Refuse what cannot be told from a combination of several layers, or from several combinations.

    Tables, pictures and lists of combinations join layers by `+`, and combinations by `; `.

    Args:
        name: of a layer, or how the names of some begin.
        where: begins the message.

    Raises:
        InputError: it holds one of the two.

    >>> check_joinable("layer1", "table")
    """
    if "+" in name or "; " in name:
        raise InputError(f"{where}: {name!r} holds what joins layers; expected a name without '+' and '; '; rename it")


def column_names(layer_sizes: Mapping[str, int]) -> list[str]:
    """The names of layers' channels beside one another.

    >>> column_names({"layer1": 2, "layer2": 1})
    ['layer1/0', 'layer1/1', 'layer2/0']
    """
    return [f"{name}/{channel}" for name, size in layer_sizes.items() for channel in range(size)]
