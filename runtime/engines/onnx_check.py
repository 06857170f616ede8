"""Checks on an ONNX file before onnxruntime reads it: native code gets nothing unexpected.

A network for faces is a feed-forward graph. Loops, branches and functions can run for ever while
onnxruntime ignores signals, external data reads other files, and operators of unknown domains are
other people's code, so that files with any of them are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from feredge.runtime.engines.protobuf import Reader, WireError, texts
from feredge.runtime.errors import EngineError
from feredge.runtime.placeholder import placeholder_hint

Message = dict[int, list[int | memoryview]]
MAX_FILE_BYTES = (1 << 31) - 1  # protobuf's own limit
MAX_NODES, MAX_FIELDS = 20_000, 1_000_000
DOMAINS = ("", "ai.onnx", "com.microsoft")
CONTROL_FLOW = ("Loop", "If", "Scan", "SequenceMap")
# Field numbers of onnx.proto.
MODEL_GRAPH, MODEL_FUNCTIONS = 7, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT = 1, 5, 11
NODE_INPUT, NODE_OUTPUT, NODE_OP_TYPE, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 4, 5, 7
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
TENSOR_NAME, TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION = 8, 13, 14
VALUE_NAME = 1


def read_onnx(path: Path) -> bytes:
    """Read an ONNX file that is safe to hand to onnxruntime.

    Raises:
        EngineError: it cannot be read, is another kind of file, or holds what is refused.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise EngineError(f"{path} has {size / 1e9:.1f} GB, an ONNX file at most 2")
        content = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror or error}") from error
    if (hint := kind_of(content)) is not None:
        raise EngineError(f"{path} {hint}")
    try:
        reason = refusal(memoryview(content))
    except WireError as error:
        raise EngineError(f"{path} is no ONNX file that onnxruntime can run: it is damaged or of "
                          f"another kind ({error})") from error
    if reason is not None:
        raise EngineError(f"{path} is refused: it {reason}; a face network is a plain feed-forward "
                          "graph, as fer-export writes it")
    return content


def kind_of(content: bytes) -> str | None:
    """Return what a file is, and what to do, if it often stands in an ONNX file's place."""
    if not content:
        return "is empty; download or export it again"
    if content.startswith(b"PK\x03\x04"):
        return ("is a zip archive, such as a PyTorch checkpoint, not an ONNX file; export a "
                "checkpoint with: fer-export --checkpoint")
    return placeholder_hint(content)


def refusal(model: memoryview) -> str | None:
    """Return why a model is refused, None if it is not.

    Raises:
        WireError: the bytes are no protobuf message.
    """
    read = Reader(MAX_FIELDS).group
    parts = read(model)
    if MODEL_FUNCTIONS in parts:
        return "holds functions"
    graphs = [read(graph) for graph in messages(parts, MODEL_GRAPH)]
    if not graphs:
        return "holds no graph"
    known: set[str] = set()
    for graph in graphs:
        for value in messages(graph, GRAPH_INPUT):
            known.update(texts(read(value).get(VALUE_NAME, [])))
        for tensor in messages(graph, GRAPH_INITIALIZER):
            fields_of = read(tensor)
            if is_external(fields_of):
                return "keeps weights in another file"
            known.update(texts(fields_of.get(TENSOR_NAME, [])))
    nodes = [node for graph in graphs for node in messages(graph, GRAPH_NODE)]
    if len(nodes) > MAX_NODES:
        return f"has {len(nodes)} nodes, more than {MAX_NODES}"
    reasons = (node_refusal(read(node), known, read) for node in nodes)
    return next(filter(None, reasons), None)


def node_refusal(
    node: Message, known: set[str], read: Callable[[memoryview], Message]
) -> str | None:
    """Return why a node is refused, None if it is not; its outputs become known."""
    operator, domain = (texts(node.get(number, []))[-1:] or [""]
                        for number in (NODE_OP_TYPE, NODE_DOMAIN))
    if domain[0] not in DOMAINS:
        return f"needs operators of the domain {domain[0][:40]!r}"
    if operator[0] in CONTROL_FLOW:
        return f"holds the control flow operator {operator[0]}"
    for attribute in messages(node, NODE_ATTRIBUTE):
        values = read(attribute)
        if ATTRIBUTE_GRAPH in values or ATTRIBUTE_GRAPHS in values:
            return f"holds a subgraph, in {operator[0][:40]}"
        if any(is_external(read(tensor)) for number in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS)
               for tensor in messages(values, number)):
            return "keeps weights in another file"
    early = set(texts(node.get(NODE_INPUT, []))) - known - {""}
    if early:
        return f"is not in order, or has a cycle: a node reads {min(early)[:60]!r} too early"
    known.update(texts(node.get(NODE_OUTPUT, [])))
    return None


def messages(message: Message, number: int) -> list[memoryview]:
    """Return the submessages of a field; values of another type are none, as protobuf has it."""
    return [value for value in message.get(number, []) if isinstance(value, memoryview)]


def is_external(tensor: Message) -> bool:
    """Return whether a tensor's values lie in another file."""
    return TENSOR_EXTERNAL_DATA in tensor or 1 in tensor.get(TENSOR_DATA_LOCATION, [])
