"""The product of users' vectors with items', as an ONNX graph of 8-bit integers."""

import onnx
from onnx import TensorProto, helper

from model_core.release.near_items import ZERO

OPSET, IR_VERSION = 20, 10


def match_graph(dim: int) -> bytes:
    """Return a graph of match (b, dim) uint8 and items (dim, n) int8: their product (b, n) int32."""
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["match", "items", "zero"], ["product"])],
        "match",
        [
            helper.make_tensor_value_info("match", TensorProto.UINT8, ["b", dim]),
            helper.make_tensor_value_info("items", TensorProto.INT8, [dim, "n"]),
        ],
        [helper.make_tensor_value_info("product", TensorProto.INT32, ["b", "n"])],
        [helper.make_tensor("zero", TensorProto.UINT8, [], [ZERO])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized
