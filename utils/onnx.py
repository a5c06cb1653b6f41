"""ONNX: export a module, check the file, run, optimise and quantise it.

Every function that writes a file writes it whole or not at all, and says in one
sentence what it cannot do. Inputs are dicts of arrays by name, such as input_ids
(B, L).

Sources: the ONNX specification (IR, versioning); torch.onnx; onnxruntime.
"""

import contextlib
import io
import logging
import os
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

LEVELS = {"none": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC"}
LEVELS |= {"extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL"}


class ExportError(ValueError):
    """A module, or a request, that cannot become an ONNX file as asked."""


@contextlib.contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that becomes it, if nothing was raised."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no folder {path.parent.name} to write {path.name} in")
    handle, part = tempfile.mkstemp(suffix=".part.onnx", dir=path.parent)
    os.close(handle)
    try:
        yield Path(part)
        os.replace(part, path)
    finally:
        Path(part).unlink(missing_ok=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter from talking: no warnings, no log lines, nothing printed."""
    nowhere = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        stack.callback(logging.disable, logging.root.manager.disable)
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        yield


def _root(error: BaseException) -> str:
    """The first line of the error at the bottom of a chain, without colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def export(
    module,
    example: dict,
    path: Path,
    dynamic: dict[str, dict[int, str]] | None = None,
    outputs: list[str] | None = None,
    opset: int = 20,
) -> Path:
    """Write `module`, called with `example`, as an ONNX file; returns its path.

    `example` maps the names of forward's arguments to tensors, such as (B, L).
    `dynamic` names the axes that may change, {"input_ids": {0: "batch", 1: "length"}};
    all others are frozen as in the example. A dynamic axis must have 2 or more there,
    since older tracers take 1 for a constant. PyTorch's notes on the source and its
    folders are left out of the file. Raises ExportError where the module does not trace
    or holds an operator that ONNX lacks, where a dynamic axis came out frozen, and
    where the file has an opset other than the one asked for.
    """
    import onnx
    import torch

    for name, axes in (dynamic or {}).items():
        if name not in example:
            raise ExportError(f"dynamic axes of {name!r}, which the example lacks")
        if frozen := [axis for axis in axes if example[name].shape[axis] == 1]:
            shape = tuple(example[name].shape)
            raise ExportError(f"{name} {shape}: axis {frozen[0]} is 1, give 2 or more")
    shapes = {name: (dynamic or {}).get(name) for name in example} if dynamic else None
    training = module.training
    try:
        with quiet():
            program = torch.onnx.export(
                module.eval(),
                (),
                kwargs=dict(example),
                dynamic_shapes=shapes,
                output_names=outputs,
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        name = type(module).__name__
        raise ExportError(f"{name} cannot be exported: {_root(error)}") from error
    finally:
        module.train(training)
    with _written_whole(path) as part:
        program.save(str(part))
        model = onnx.load(part)
        for noted in [model.graph, *model.graph.node, *model.graph.value_info]:
            noted.ClearField("metadata_props")  # the exporter's notes: source, paths
        onnx.save(model, part)
        onnx.checker.check_model(model)
        if (written := opset_of(model)) != opset:
            raise ExportError(f"asked for opset {opset}, the exporter wrote {written}")
        _demand_dynamic(model, dynamic or {})
    return Path(path)


def _demand_dynamic(model, dynamic: dict[str, dict[int, str]]) -> None:
    found = {i.name: i.type.tensor_type.shape.dim for i in model.graph.input}
    for name, axes in dynamic.items():
        if name not in found:
            raise ExportError(f"{name} is no input of the graph: forward ignores it")
        for axis, label in axes.items():
            if not found[name][axis].dim_param:
                size = found[name][axis].dim_value
                raise ExportError(
                    f"axis {axis} ({label}) of {name} is frozen to {size}"
                )


def opset_of(model) -> int:
    """The opset, the version of the operators, of a model or a file: one number (1)."""
    import onnx

    if isinstance(model, str | Path):
        model = onnx.load(model, load_external_data=False)
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    return versions[0] if versions else 0


def operators(path: Path) -> Counter[str]:
    """How often each operator occurs among the (N) nodes of a file's graph."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return Counter(node.op_type for node in graph.node)


def flow(path: Path) -> tuple[list[str], list[tuple[int, int]]]:
    """The (N) operators of a file's graph in order, and pairs of who feeds whom.

    What is stored in the file, weights and constants, feeds nobody here.
    """
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    makers = {name: i for i, node in enumerate(nodes) for name in node.output}
    edges = [
        (makers[name], i)
        for i, node in enumerate(nodes)
        for name in dict.fromkeys(node.input)
        if name in makers
    ]
    return [node.op_type for node in nodes], edges


def session(
    path: Path, level: str = "all", threads: int = 1, optimised: Path | None = None
):
    """An onnxruntime session of a file, on the CPU, on `threads` threads without spin.

    `level` is "none", "basic", "extended" or "all"; `optimised` is where to write the
    graph after it. Raises FileNotFoundError, and ValueError for a file that is no whole
    ONNX model, or a level that is none.
    """
    import onnxruntime

    path = Path(path)
    if level not in LEVELS:
        raise ValueError(f"level {level!r} is none of {', '.join(LEVELS)}")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path.name}")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, LEVELS[level]
    )
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if optimised:
        options.optimized_model_filepath = str(optimised)
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        said = str(error).splitlines()[0]
        if missing := re.search(r'External data path does not exist: "(.*)"', said):
            lost = f"{Path(missing[1]).name}, the file of its weights, is missing"
            raise ValueError(f"{path.name} cannot be read: {lost}") from None
        reason = said.rpartition(" failed:")[2].strip().replace(str(path), path.name)
        raise ValueError(f"{path.name} is no whole ONNX model: {reason}") from None


TYPES = {"tensor(int64)": "int64", "tensor(float)": "float32", "tensor(bool)": "bool"}
TYPES |= {"tensor(int32)": "int32", "tensor(double)": "float64"}


def run(session, inputs: dict) -> dict[str, np.ndarray]:
    """The outputs of a session by name, such as last_hidden_state (B, L, D).

    Inputs are arrays or tensors by name. Raises ValueError, before anything runs, for a
    name that is missing or unknown, another dtype, another rank, another frozen size.
    """
    wanted = {i.name: i for i in session.get_inputs()}
    for name in [*wanted, *inputs]:
        if name not in inputs or name not in wanted:
            kind = "is missing" if name in wanted else "is no input"
            raise ValueError(f"{name} {kind}; inputs: {', '.join(wanted)}")
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    for name, array in arrays.items():
        dtype = TYPES.get(wanted[name].type, wanted[name].type)
        if str(array.dtype) != dtype:
            raise ValueError(f"{name} is {array.dtype}, the graph wants {dtype}")
        shape = wanted[name].shape
        fits = [
            not isinstance(w, int) or w == g
            for w, g in zip(shape, array.shape, strict=False)
        ]
        if len(shape) != array.ndim or not all(fits):
            raise ValueError(f"{name} is {array.shape}, the graph wants {tuple(shape)}")
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, arrays), strict=True))


def _values(outputs) -> list[np.ndarray]:
    if isinstance(outputs, dict):  # transformers' outputs too
        outputs = [*outputs.values()]
    many = isinstance(outputs, list | tuple)
    return [np.asarray(o.detach()) for o in (outputs if many else [outputs])]


def compare(session, module, batches: Iterable[dict]) -> list[float]:
    """For each batch max |ours − module's| over all outputs of a session.

    Batches are dicts of tensors, such as input_ids (B, L). Raises ValueError where the
    shapes of the outputs differ.
    """
    import torch

    errors = []
    for batch in batches:
        with torch.inference_mode():
            wanted = _values(module(**batch))
        found = run(session, batch)
        worst = 0.0
        for (name, ours), theirs in zip(found.items(), wanted, strict=True):
            if ours.shape != theirs.shape:
                raise ValueError(f"{name} is {ours.shape}, the module's {theirs.shape}")
            worst = max(worst, float(np.abs(ours - theirs).max()))
        errors.append(worst)
    return errors


def verify(path: Path, module, batches: Iterable[dict], tolerance: float) -> float:
    """The worst error of a file against its module on all batches, such as (B, L).

    Raises ValueError that names the first batch whose error is above `tolerance`.
    """
    batches = [*batches]
    errors = compare(session(path), module, batches)
    for batch, error in zip(batches, errors, strict=True):
        if not error <= tolerance:
            shapes = ", ".join(f"{k} {tuple(v.shape)}" for k, v in batch.items())
            raise ValueError(f"{Path(path).name} is off by {error:.2g} on {shapes}")
    return max(errors)


def optimise(path: Path, out: Path, level: str = "all") -> Path:
    """Write the graph as onnxruntime rewrites it for the CPU; its (N) nodes get fewer.

    The result holds onnxruntime's own operators, and is not for other runtimes.
    """
    with _written_whole(out) as part:
        session(path, level, optimised=part)
    return Path(out)


PRODUCTS = ["MatMul", "Gemm"]  # what is computed in int8; Gather: tables kept in int8


def quantise_dynamic(
    path: Path, out: Path, per_channel: bool = False, embeddings: bool = False
) -> Path:
    """Write a file with int8 weights; the scales of activations are found at each call.

    The weights (D, D′) of matrix products become int8, and with `embeddings` the tables
    (V, D), which are looked up and turned back into floats.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _written_whole(out) as part, quiet():
        quantize_dynamic(
            str(path),
            str(part),
            op_types_to_quantize=PRODUCTS + ["Gather"] * embeddings,
            per_channel=per_channel,
            weight_type=QuantType.QInt8,
        )
    return Path(out)


def quantise_static(
    path: Path,
    out: Path,
    batches: Iterable[dict],
    per_channel: bool = False,
    embeddings: bool = False,
) -> Path:
    """Write a file with int8 weights and scales of activations from `batches`.

    Batches are dicts of arrays, such as input_ids (B, L), for calibration 校准, other
    ones than those on which the result is judged. Raises ValueError without any.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    batches = [{k: np.asarray(v) for k, v in batch.items()} for batch in batches]
    if not batches:
        raise ValueError(
            "static quantisation needs batches to calibrate on; none given"
        )

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rest = iter(batches)

        def get_next(self):
            return next(self.rest, None)

    with _written_whole(out) as part, quiet():
        quantize_static(
            str(path),
            str(part),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=PRODUCTS + ["Gather"] * embeddings,
            per_channel=per_channel,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
        )
    return Path(out)
