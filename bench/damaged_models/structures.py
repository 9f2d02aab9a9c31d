"""Damage along the grammar of ONNX: graphs that lie about files, sizes, order and ends, and operators out of bounds.

Each way changes a good model in place; what it needs of chance comes from a seeded generator.
"""

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Final

from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper

from bench.damaged_models.operators import NASTY

Damage = Callable[[ModelProto, Random], None]

GIANT: Final = (0, -1, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))
PLACES: Final = (
    "golden",
    "model",
    "../golden",
    "../../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "/proc/self/mem",
    "",
)
PLACES_ODD: Final = (
    ".",
    "..",
    "a\x00b",
    "x" * 5000,
    "file:///etc/passwd",
    "%2e%2e/golden",
    "//golden",
    "*/_ORT_MEM_ADDR_/*",
)
ENDLESS_SHARE: Final = 0.002
"""Each of these costs the whole time limit."""
NAMES: Final = ("", "x", "logits", "\x00", "a" * 100_000, "../x", "NaN", "\u202e")


def damaged(model: bytes, rng: Random) -> bytes:
    """A copy of `model` with one to three kinds of damage."""
    proto = ModelProto.FromString(model)
    if rng.random() < ENDLESS_SHARE:
        _endless(proto)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        with suppress(IndexError, ValueError):  # the damage before left nothing of this kind
            rng.choice(DAMAGES)(proto, rng)
    data: bytes = proto.SerializeToString()
    return data


def _external_data(model: ModelProto, rng: Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.data_location = TensorProto.EXTERNAL
    if rng.random() < 0.7:
        tensor.ClearField("raw_data")
    pairs = {
        "location": rng.choice(PLACES + PLACES_ODD),
        "offset": str(rng.choice(GIANT)),
        "length": str(rng.choice(GIANT)),
    }
    for key in rng.sample(sorted(pairs), rng.randint(1, 3)):
        tensor.external_data.add(key=key, value=pairs[key])


def _giant_dimension(model: ModelProto, rng: Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.dims.append(rng.choice(GIANT)) if rng.random() < 0.3 or not tensor.dims else _set_one(tensor.dims, rng)


def _set_one(values: Any, rng: Random) -> None:
    values[rng.randrange(len(values))] = rng.choice(GIANT)


def _input_shape(model: ModelProto, rng: Random) -> None:
    dimension = rng.choice(rng.choice((model.graph.input, model.graph.output))[0].type.tensor_type.shape.dim)
    dimension.dim_value = rng.choice(GIANT)


def _too_little_data(model: ModelProto, rng: Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]


def _too_much_data(model: ModelProto, rng: Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.raw_data = tensor.raw_data + bytes(rng.choice((1, 4096, 8 << 20)))


def _other_type(model: ModelProto, rng: Random) -> None:
    rng.choice(model.graph.initializer).data_type = rng.randrange(40)


def _border_type(model: ModelProto, rng: Random) -> None:
    border = rng.choice((model.graph.input, model.graph.output))[0]
    if rng.random() < 0.5:
        border.type.tensor_type.elem_type = rng.randrange(30)
    else:
        border.type.CopyFrom(helper.make_sequence_type_proto(border.type))


def _cycle(model: ModelProto, rng: Random) -> None:
    nodes = [node for node in model.graph.node if node.input and node.output]
    first, second = rng.choice(nodes), rng.choice(nodes)
    first.input[rng.randrange(len(first.input))] = second.output[0]


def _name(model: ModelProto, rng: Random) -> None:
    node = rng.choice(model.graph.node)
    names = rng.choice([part for part in (node.input, node.output) if part])
    names[rng.randrange(len(names))] = rng.choice(NAMES)


def _operator(model: ModelProto, rng: Random) -> None:
    node = rng.choice(model.graph.node)
    node.op_type = rng.choice((*(name for name, _, _ in NASTY), "NoSuchOperator", ""))
    if rng.random() < 0.3:
        node.domain = rng.choice(("com.microsoft", "ai.onnx.ml", "ai.onnx.training", "evil", "\x00"))


def _attribute(model: ModelProto, rng: Random) -> None:
    found = [one for node in model.graph.node for one in node.attribute if one.ints or one.i]
    if not found:
        return
    attribute = rng.choice(found)
    if attribute.ints:
        _set_one(attribute.ints, rng)
    else:
        attribute.i = rng.choice(GIANT)


def _versions(model: ModelProto, rng: Random) -> None:
    if rng.random() < 0.5:
        model.opset_import[0].version = rng.choice((*GIANT, 1, 7, 25, 999))
    else:
        model.ir_version = rng.choice((*GIANT, 1, 3, 999))


def _drop(model: ModelProto, rng: Random) -> None:
    part = rng.choice((model.graph.node, model.graph.initializer, model.graph.input, model.graph.output))
    if part:
        del part[rng.randrange(len(part))]


def _twice(model: ModelProto, rng: Random) -> None:
    part = rng.choice((model.graph.node, model.graph.initializer, model.graph.input, model.graph.output))
    if part:
        part.append(rng.choice(part))


def _long_chain(model: ModelProto, rng: Random) -> None:
    kind, length = rng.choice(("Identity", "Neg", "Relu", "Cast")), rng.choice((100, 1_000, 10_000))
    extra: dict[str, Any] = {"to": TensorProto.FLOAT} if kind == "Cast" else {}
    names = [f"chain{number}" for number in range(length)]
    _before_logits(model, names[0])
    for source, target in zip(names, [*names[1:], "logits"], strict=True):
        model.graph.node.append(helper.make_node(kind, [source], [target], **extra))


def _nested(model: ModelProto, rng: Random) -> None:
    """Branches within branches."""
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    result = helper.make_tensor_value_info("deep", TensorProto.FLOAT, None)
    leaf = graph = helper.make_graph([helper.make_node("Identity", ["inner"], ["deep"])], "leaf", [], [result])
    for _ in range(rng.choice((3, 10, 25))):
        node = helper.make_node("If", ["yes"], ["deep"], then_branch=graph, else_branch=leaf)
        graph = helper.make_graph([node], "level", [], [result])
    _before_logits(model, "inner")
    model.graph.initializer.append(yes)
    model.graph.node.append(helper.make_node("If", ["yes"], ["logits"], then_branch=graph, else_branch=leaf))


def _calls_itself(model: ModelProto, rng: Random) -> None:
    """A function of the model that consists of a call to itself, or of two that call each other."""
    calls = ("f", "f") if rng.random() < 0.5 else ("g", "f")
    for name, called in zip(("f", "g"), calls, strict=True):
        function = FunctionProto(name=name, domain="own")
        function.input.append("a")
        function.output.append("b")
        function.node.append(helper.make_node(called, ["a"], ["b"], domain="own"))
        function.opset_import.append(helper.make_opsetid("own", 1))
        model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    _before_logits(model, "called")
    model.graph.node.append(helper.make_node("f", ["called"], ["logits"], domain="own"))


def _nasty_operator(model: ModelProto, rng: Random) -> None:
    """An operator whose arguments ask for too much, computed on the way to the logits."""
    kind, inputs, attributes = rng.choice(NASTY)
    names = []
    for number, values in enumerate(inputs):
        name = f"argument{number}"
        if values is None:
            names.append(rng.choice(("before", "x")))
            continue
        model.graph.initializer.append(helper.make_tensor(name, *values))
        names.append(name)
    _before_logits(model, "before")
    domain = "com.microsoft" if kind.startswith("ms.") else ""
    node = helper.make_node(kind.removeprefix("ms."), names, ["nasty"], domain=domain, **attributes)
    model.graph.node.append(node)
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    kept = rng.random() < 0.5
    model.graph.node.extend(_as_zero("nasty") if kept else [helper.make_node("Identity", ["nasty"], ["logits"])])
    if kept:
        model.graph.node.append(helper.make_node("Add", ["before", "zero"], ["logits"]))


def _as_zero(name: str) -> list[NodeProto]:
    """Something that is 0 but cannot be computed without `name`."""
    return [
        helper.make_node("Size", [name], ["size"]),
        helper.make_node("Cast", ["size"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["as_float", "as_float"], ["zero"]),
    ]


def _endless(model: ModelProto) -> None:
    """A loop that hardly ever ends."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["keep"], ["again"]), helper.make_node("Relu", ["carried"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("keep", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    model.graph.initializer.append(helper.make_tensor("turns", TensorProto.INT64, [], [(1 << 63) - 1]))
    model.graph.initializer.append(helper.make_tensor("keep_going", TensorProto.BOOL, [], [True]))
    _before_logits(model, "start")
    model.graph.node.append(helper.make_node("Loop", ["turns", "keep_going", "start"], ["logits"], body=body))


def _before_logits(model: ModelProto, name: str) -> None:
    """What was called `logits` is called `name` from now on."""
    for node in model.graph.node:
        for number, output in enumerate(node.output):
            if output == "logits":
                node.output[number] = name


DAMAGES: Final[tuple[Damage, ...]] = (
    *(_external_data, _external_data, _giant_dimension, _input_shape, _too_little_data, _too_much_data, _other_type),
    *(_border_type, _cycle, _name, _operator, _attribute, _attribute, _versions, _drop, _twice, _long_chain, _nested),
    *(_calls_itself, _nasty_operator, _nasty_operator, _nasty_operator),
)
