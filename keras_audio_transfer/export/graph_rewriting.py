"""A functional model once more, with other layers in the place of some.

What `batchnorm_folding` and `chunked_inference` have in common.
"""

from collections import Counter

import keras


def layers_before(model: keras.Model) -> dict:
    """Each layer called once, on one tensor -> the layer that makes this tensor for it alone, or None."""
    # Not the layers' own nodes: a layer may stand in other models, too.
    nodes = [node for of_depth in model._nodes_by_depth.values() for node in of_depth]
    uses = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    uses.update(id(tensor) for tensor in model.outputs)
    calls = Counter(node.operation for node in nodes)
    makers = {id(tensor): node.operation for node in nodes for tensor in node.output_tensors}
    before = {}
    for node in nodes:
        if calls[node.operation] == len(node.input_tensors) == 1:
            tensor = id(node.input_tensors[0])
            is_alone = uses[tensor] == calls[makers[tensor]] == 1
            before[node.operation] = makers[tensor] if is_alone else None
    return before


def copied(layer: keras.layers.Layer, **changed) -> keras.layers.Layer:
    """A new layer of the same settings but for those that are changed; its weights are not copied."""
    return type(layer).from_config({**layer.get_config(), **changed})


def rebuilt(model: keras.Model, replaced: dict, left_out: set, weights: dict) -> keras.Model:
    """The model with other layers.

    Args:
        model: functional. It is left as it is.
        replaced: layer -> the one that takes its place.
        left_out: layers whose input is passed on as it is.
        weights: replaced layer -> the new one's weights, unless they are the old one's.

    Returns:
        A copy with its own weights; the model itself where nothing is replaced.
    """
    if not replaced:
        return model
    copies = {}

    def copy_of(layer):
        copies[layer] = replaced[layer] if layer in replaced else copied(layer)
        return copies[layer]

    def called(copy, *args, **kwargs):
        if any(copy is copies.get(layer) for layer in left_out):
            return args[0]
        return copy(args[0]) if copy in replaced.values() else copy(*args, **kwargs)

    result = keras.models.clone_model(model, clone_function=copy_of, call_function=called)
    for layer, copy in copies.items():
        if layer not in left_out:
            copy.set_weights(weights.get(layer, layer.get_weights()))
    return result
