"""Which part of the network a node of its ONNX file belongs to: the exporter writes the modules' names beside it."""

from __future__ import annotations

import ast

import onnx

SCOPES = "pkg.torch.onnx.name_scopes"
"""Key of a node's metadata: a list of names, from the outermost module to the operation."""

ROOT = "net"
"""Name of the network in the graph that is exported."""


def scope_of(node: onnx.NodeProto) -> str:
    """The module that a node is part of, without the root's name: "image_encoder.blocks.0.mlp.1"; "" for none."""
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            names = ast.literal_eval(entry.value)
            return names[-2].removeprefix(ROOT).removeprefix(".") if len(names) > 1 else ""
    return ""


def within(scope: str, *parts: str) -> bool:
    """Whether a scope is one of the parts, or lies in one."""
    return any(scope == part or scope.startswith(part + ".") for part in parts)


def keep_scopes_only(model: onnx.ModelProto) -> None:
    """Take out what else the exporter writes beside nodes and values: stack traces with paths of the machine."""
    for node in model.graph.node:
        kept = [(entry.key, entry.value) for entry in node.metadata_props if entry.key == SCOPES]
        del node.metadata_props[:]
        for key, value in kept:
            node.metadata_props.add(key=key, value=value)
        node.doc_string = ""
    for values in (model.graph.input, model.graph.output, model.graph.value_info, model.graph.initializer):
        for value in values:
            del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.functions[:]
