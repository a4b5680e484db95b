"""A network as an ONNX file, by torch's exporter without what that does in vain for the graphs of a release.

It looks its functions up anew for each graph, and traces each a second time to take operations apart that it
cannot say in ONNX. The second trace is half of all that an export takes, and our graphs have no such
operation: three that it has no function of are given one here. Another torch may not have what is replaced,
or by another name; then it goes the longer way, as for any graph with an operation that is not among `WHOLE`.
"""

import contextlib
import functools
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxscript import opset20 as op
from torch import Tensor, nn
from torch._ops import OpOverload

OPSET, IR_VERSION = 20, 10  # 20 has GELU as one operation

aten = torch.ops.aten

_ATEN = (
    "_assert_scalar.default", "_assert_tensor_metadata.default", "abs.default", "add.Tensor", "any.dim",
    "bitwise_not.default", "cat.default", "clamp.default", "cumsum.default", "div.Tensor",
    "embedding.default", "exp.default", "expand.default", "expand_as.default", "full_like.default",
    "gelu.default", "gt.Scalar", "index.Tensor", "layer_norm.default", "linalg_vector_norm.default",
    "linear.default", "log2.default", "masked_fill.Scalar", "matmul.default", "mean.dim", "mul.Tensor",
    "numpy_T.default", "ones_like.default", "permute.default", "relu.default", "reshape.default",
    "rsub.Scalar", "select.int", "sigmoid.default", "silu.default", "slice.Tensor", "softmax.int",
    "softplus.default", "split.Tensor", "sqrt.default", "squeeze.dim", "stack.default", "sub.Tensor",
    "sum.dim_IntList", "sym_size.int", "tanh.default", "to.dtype", "transpose.int", "unbind.int",
    "unsqueeze.default", "where.self",
)  # fmt: skip
WHOLE = {f"aten.{name}" for name in _ATEN} | {"add", "eq", "getitem", "mul", "or_", "sym_min", "sym_not"}
"""Operations that ONNX has as they are, and what is counted of sizes."""


def _rsub(x: Any, other: Any, alpha: Any = 1) -> Any:
    """``other - alpha * x``; integers from a fraction are fractions."""
    if isinstance(other, float) and not x.dtype.is_floating_point():
        x = op.Cast(x, to=onnx.TensorProto.FLOAT)
    scaled = x if alpha == 1 else op.Mul(x, op.CastLike(alpha, x))
    return op.Sub(op.CastLike(other, x), scaled)


def _transposed(x: Any) -> Any:
    """``x.T``: all axes in reverse."""
    return op.Transpose(x)


def _to_dtype(
    x: Any, dtype: int, non_blocking: bool = False, copy: bool = False, memory_format: str = ""
) -> Any:
    """``x.to(dtype)``; numbers of types are those of ONNX."""
    return op.Cast(x, to=dtype)


TRANSLATIONS: dict[Any, Callable[..., Any]] = {
    aten.rsub.Scalar: _rsub,
    aten.numpy_T.default: _transposed,
    aten.to.dtype: _to_dtype,
}


def is_whole(program: torch.export.ExportedProgram) -> bool:
    """Tell whether all that a graph does can be said in ONNX as it is."""
    done = (node.target for node in program.graph.nodes if node.op == "call_function")
    return all((str(one) if isinstance(one, OpOverload) else one.__name__) in WHOLE for one in done)


with contextlib.suppress(ImportError, AttributeError):
    from torch.onnx._internal.exporter import _fx_passes
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    _taken_apart, _from_torchlib = _fx_passes.decompose_with_registry, ONNXRegistry.from_torchlib

    @functools.cache
    def _registry(*given: int, **named: int) -> ONNXRegistry:
        registry = _from_torchlib(*given, **named)
        for operation, function in TRANSLATIONS.items():
            registry.register_op(operation, function)
        return registry

    def _whole_or_taken_apart(
        exported_program: torch.export.ExportedProgram, registry: ONNXRegistry
    ) -> torch.export.ExportedProgram:
        whole = is_whole(exported_program)
        return exported_program if whole else _taken_apart(exported_program, registry)

    ONNXRegistry.from_torchlib = staticmethod(_registry)  # type: ignore[method-assign]
    _fx_passes.decompose_with_registry = _whole_or_taken_apart


def write_graph(
    path: Path,
    module: nn.Module,
    inputs: dict[str, Tensor],
    axes: dict[str, tuple[str, ...]],
    outputs: Sequence[str],
) -> None:
    """Write a graph; `axes` names the first axes of each input, which stay open."""
    dims = {name: torch.export.Dim(name, min=1) for named in axes.values() for name in named}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # else it names each op library it lacks
    with torch.no_grad(), warnings.catch_warnings(), _nothing_kept():
        warnings.simplefilter("ignore")  # about dimensions that share a name, as they should
        program = torch.onnx.export(
            module,
            (),
            kwargs=inputs,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes={
                name: {axis: dims[dim] for axis, dim in enumerate(named)} for name, named in axes.items()
            },
        )
    assert program is not None
    program.save(str(path), external_data=False)
    model = onnx.load(str(path))
    _forget_where(model.graph)
    onnx.save(model, str(path))
    for value in model.graph.input:
        for axis in range(len(axes[value.name])):
            if not value.type.tensor_type.shape.dim[axis].dim_param:
                raise ValueError(f"{path.name} axis {axis} of {value.name!r} must be symbolic, is fixed")
    if model.opset_import[0].version != OPSET:
        raise ValueError(f"{path.name} must use opset {OPSET}, got {model.opset_import[0].version}")


def _nothing_kept() -> contextlib.AbstractContextManager[None]:
    """Let torch keep no result of an operation that it traces for the next one like it.

    Where sizes are open, to keep a result takes as long as the operation, and few operations come again.
    """
    from torch._dynamo import config  # takes a second, and only an export needs it

    if not hasattr(config, "fake_tensor_cache_enabled"):  # another torch may have none
        return contextlib.nullcontext()
    patched: contextlib.AbstractContextManager[None] = config.patch(fake_tensor_cache_enabled=False)
    return patched


def _forget_where(graph: onnx.GraphProto) -> None:
    """Take out what the exporter says of where code lies: a release is the same wherever it is made."""
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
