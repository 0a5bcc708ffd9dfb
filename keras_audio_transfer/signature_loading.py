"""Some signatures of a SavedModel, without the others: TensorFlow takes seconds to load them all."""

from collections.abc import Collection, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from keras_audio_transfer.tensorflow_alone import tf

if TYPE_CHECKING:
    from tensorflow.core.framework.function_pb2 import FunctionDef
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef


def load_signatures(saved_model: Path, names: Collection[str] | None) -> Any:
    """What `tf.saved_model.load` returns, with these signatures only, of those that are there, and no other functions.

    None for the names: all of it.

    Raises:
        Exception: as `tf.saved_model.load`; of many kinds, where files are missing or damaged.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    content = SavedModel.FromString((saved_model / "saved_model.pb").read_bytes())
    graphs = content.meta_graphs
    is_ours = len(graphs) == 1 and not graphs[0].asset_file_def and graphs[0].object_graph_def.nodes
    if names is None or not is_ours:
        return tf.saved_model.load(str(saved_model))
    _leave_out_others(graphs[0], names)
    with TemporaryDirectory() as folder:
        (Path(folder) / "saved_model.pb").write_bytes(content.SerializeToString())
        options = tf.saved_model.LoadOptions(experimental_skip_checkpoint=True)  # the weights lie elsewhere
        loaded = tf.saved_model.load(folder, options=options)
    weights = tf.train.Checkpoint(root=loaded).read(str(saved_model / "variables" / "variables"))
    weights.assert_existing_objects_matched()
    return loaded


def _leave_out_others(meta_graph: "MetaGraphDef", names: Collection[str]) -> None:
    """Take the root's functions and the other signatures out, and what only they have and call."""
    objects, library = meta_graph.object_graph_def, meta_graph.graph_def.library
    root = objects.nodes[0]
    signatures = objects.nodes[next(child.node_id for child in root.children if child.local_name == "signatures")]
    functions = [child for child in root.children if objects.nodes[child.node_id].WhichOneof("kind") == "function"]
    for parent, children in (
        (root, functions),
        (signatures, [child for child in signatures.children if child.local_name not in names]),
    ):
        for child in children:
            parent.children.remove(child)
    used, kept = _used(objects), set()
    for place, node in enumerate(objects.nodes):
        if place in used:
            kept.update(_functions_of(node))
        else:  # objects refer to each other by their places: this one becomes empty
            node.Clear()
            node.user_object.identifier = "_generic_user_object"
            node.user_object.version.CopyFrom(root.user_object.version)
    by_name = {function.signature.name: function for function in library.function}
    called = _called(kept, by_name)
    for name in {*objects.concrete_functions} - called:
        del objects.concrete_functions[name]
    del library.function[:]
    library.function.extend(function for name, function in by_name.items() if name in called)


def _functions_of(node: Any) -> Iterable[str]:
    own = node.bare_concrete_function.concrete_function_name
    return [own] if own else node.function.concrete_functions


def _used(objects: Any) -> set[int]:
    """The places of the objects that the root has, also those that their functions refer to."""
    found, new = set(), [0]
    while new:
        place = new.pop()
        if place not in found:
            found.add(place)
            node = objects.nodes[place]
            new += [child.node_id for child in (*node.children, *node.dependencies)]
            new += [slot.slot_variable_node_id for slot in node.slot_variables]
            new += [bound for name in _functions_of(node) for bound in objects.concrete_functions[name].bound_inputs]
    return found


def _called(names: Iterable[str], library: "dict[str, FunctionDef]") -> set[str]:
    """The functions of those names, and all that they call."""
    found, new = set(), [*names]
    while new:
        name = new.pop()
        if name in library and name not in found:
            found.add(name)
            values = [value for node in library[name].node_def for value in node.attr.values()]
            new += [function.name for value in values for function in (value.func, *value.list.func)]
    return found
