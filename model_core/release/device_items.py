"""The vectors of all items on the device that the graphs run on, kept up to date row by row."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from model_core.release.match_graph import IR_VERSION, OPSET
from model_core.release.near_items import Floats, Near, same_place

SCORES = 1 << 24
"""Of one call: 64 MiB that come back to the host."""
NEAR = np.float32(2.0**-8)
"""What products of half floats, or of TensorFloat-32, may be off by, for each unit of both lengths."""
ROWS = ("rows", TensorProto.INT64, ["k", 1])


class DeviceItems:
    """See `NearItems`: a copy of the vectors that stays on a device, so that no request carries them there.

    Rows that were written go there alone, and into their places; only a table that has outgrown the copy goes
    whole. Products are bound to the copy (ONNX Runtime's IOBinding) and come back as single floats.

    Parameters
    ----------
    dim
        Width of a vector.
    device
        ``"cuda"`` or ``"cpu"``.
    half
        Keep the copy, and make the products, in half precision.
    open_graph
        Opens an ONNX graph, given as bytes, on the device.
    """

    def __init__(self, *, dim: int, device: str, half: bool, open_graph: Callable[[bytes], Any]) -> None:
        self._dim, self._device = dim, device
        self._dtype = np.dtype(np.float16 if half else np.float32)
        element = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        self._scatter = open_graph(_scatter_graph(dim, element))
        self._product = open_graph(_product_graph(dim, element))
        self.norms = np.zeros(0, np.float32)
        self.errors = self.norms.copy()
        self._copied: Floats | None = None  # the array that the copy is of
        self._copy: Any = None
        self._written: list[NDArray[np.int64]] = []
        self.uploaded_rows = 0

    def write(self, rows: NDArray[np.int64]) -> None:
        """See `NearItems.write`."""
        self._written.append(rows)

    def hold(self, items: Floats) -> None:
        """See `NearItems.hold`. A table with more rows than the copy has room for is sent whole."""
        if not same_place(items, self._copied) or len(items) > self._copy.shape()[0]:
            self._replace(items)
            self._written.clear()
        elif self._written:
            rows = np.unique(np.concatenate(self._written))
            self._update(rows[rows < len(items)], items)
            later = rows[rows >= len(items)]
            self._written = [later] if len(later) else []
        self._copied = items

    def at_once(self, requests: int) -> int:
        """See `NearItems.at_once`."""
        return max(1, SCORES // requests)

    def near(self, match: Floats, begin: int, end: int) -> Near:
        """See `NearItems.near`."""
        binding = self._product.io_binding()
        binding.bind_cpu_input("match", np.ascontiguousarray(match))
        binding.bind_ortvalue_input("items", self._copy)
        binding.bind_cpu_input("begin", np.array([begin], np.int64))
        binding.bind_cpu_input("end", np.array([end], np.int64))
        binding.bind_output("product", "cpu")
        self._product.run_with_iobinding(binding)
        of_norm = NEAR * np.linalg.norm(match, axis=1).astype(np.float32)
        return Near(binding.copy_outputs_to_cpu()[0], of_norm, np.zeros_like(of_norm))

    def _replace(self, items: Floats) -> None:
        room = 1 << max(len(items) - 1, 1).bit_length()
        table = np.zeros((room, self._dim), self._dtype)
        table[: len(items)] = items
        self._copy = None  # two at a time would need the memory of both
        self._copy = ort.OrtValue.ortvalue_from_numpy(table, self._device, 0)
        self.norms, self.errors = np.zeros((2, room), np.float32)
        self.norms[: len(items)] = np.linalg.norm(items, axis=1)
        self.uploaded_rows += len(items)

    def _update(self, rows: NDArray[np.int64], items: Floats) -> None:
        if not len(rows):
            return
        binding = self._scatter.io_binding()
        binding.bind_cpu_input("rows", rows[:, None])
        binding.bind_cpu_input("vectors", items[rows].astype(self._dtype))
        # Read from and written to the same memory: only the rows are moved.
        binding.bind_ortvalue_input("items", self._copy)
        binding.bind_ortvalue_output("written", self._copy)
        self._scatter.run_with_iobinding(binding)
        binding.synchronize_outputs()
        self.norms[rows] = np.linalg.norm(items[rows], axis=1)
        self.uploaded_rows += len(rows)


def _scatter_graph(dim: int, element: int) -> bytes:
    return _graph(
        [helper.make_node("ScatterND", ["items", "rows", "vectors"], ["written"])],
        [("items", element, ["n", dim]), ROWS, ("vectors", element, ["k", dim])],
        ("written", element, ["n", dim]),
    )


def _product_graph(dim: int, element: int) -> bytes:
    return _graph(
        [
            helper.make_node("Slice", ["items", "begin", "end"], ["some"]),
            helper.make_node("Cast", ["match"], ["asked"], to=element),
            helper.make_node("Gemm", ["asked", "some"], ["narrow"], transB=1),
            helper.make_node("Cast", ["narrow"], ["product"], to=TensorProto.FLOAT),
        ],
        [
            ("match", TensorProto.FLOAT, ["b", dim]),
            ("items", element, ["n", dim]),
            ("begin", TensorProto.INT64, [1]),
            ("end", TensorProto.INT64, [1]),
        ],
        ("product", TensorProto.FLOAT, ["b", "m"]),
    )


def _graph(nodes: list[Any], inputs: list[tuple[str, int, list[Any]]], output: tuple[Any, ...]) -> bytes:
    made = helper.make_graph(
        nodes,
        "items",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*output)],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized
