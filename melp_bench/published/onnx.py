"""An ECG encoder as an ONNX graph, checked with onnxruntime before it is kept.

Shapes: B records (any number), L leads, T samples.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from melp_bench.components import ECGEncoder
from melp_bench.errors import UserError
from melp_bench.home import commit, make_folder, temporary_path
from melp_bench.published.complex_steps import for_graphs, has_complex_numbers

INPUT = "signal"
TRACED, CHECKED = 2, 3  # records
RTOL, ATOL = 1e-3, 1e-4
SCALES = ("record", "embedding", "segments", "tokens")


class Named(nn.Module):
    """The encoder's features as a plain tuple, in the order of `names`."""

    def __init__(self, encoder: ECGEncoder, names: tuple[str, ...]) -> None:
        super().__init__()
        self.encoder, self.names = encoder, names

    def forward(self, signal: Tensor) -> tuple[Tensor, ...]:
        """Return the features of `signal` (B, L, T)."""
        found = self.encoder(signal).present()
        return tuple(found[name] for name in self.names)


def export_onnx(encoder: ECGEncoder, file: Path) -> float:
    """Write the encoder's features as a graph for any number of records; return the largest difference that was found.

    Input `signal` is (B, L, T) as the encoder's spec asks; outputs are named as `Features` names them.

    Raises:
        UserError: the extra `onnx` is not installed, the encoder has steps that no graph can hold, or onnxruntime answers
            otherwise than PyTorch; no file is left then.
    """
    try:
        silent_onnxruntime()  # reads the graph again
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise UserError(f"ONNX needs {error.name!r}; pip install 'melp-bench[onnx]'") from error
    encoder.eval()
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(CHECKED, len(encoder.spec.leads), encoder.spec.samples, generator=generator)
    with torch.no_grad():
        found = encoder(signal).present()
    names = tuple(name for name in SCALES if name in found)
    make_folder(file.parent)
    partial = temporary_path(file)
    try:
        _write(Named(encoder, names), signal[:TRACED], names, partial)
        worst = _check(_answers(partial, signal, names), found)
        with partial.open("rb+") as handle:
            commit(handle.fileno(), partial, file)
    finally:
        partial.unlink(missing_ok=True)
    return worst


def silent_onnxruntime() -> Any:
    """Return onnxruntime, which from 1.29 on tells its makers of every graph, unless the environment says no before its import.

    What the environment says already is left: https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # where Windows collects them, which does not ask the environment
    return onnxruntime


def _write(module: Named, signal: Tensor, names: tuple[str, ...], path: Path) -> None:
    try:
        with _quiet(), _step_by_step(), torch.no_grad():
            torch.onnx.export(
                _program(module, signal),
                (),
                str(path),
                input_names=[INPUT],
                output_names=list(names),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # torch's exporter raises kinds of its own, and what the encoder's own code raises
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__
        reason = next(iter(str(first).strip().splitlines()), type(first).__name__)
        raise UserError(f"{type(module.encoder).__name__!r} cannot be written as a graph: {reason}") from error


def _program(module: nn.Module, signal: Tensor) -> torch.export.ExportedProgram:
    """Return the steps for any number of records, complex numbers among them in a form that graphs have."""
    program = _steps(module, signal)
    traced = program.module()
    if not isinstance(traced, GraphModule) or not has_complex_numbers(traced):
        return program
    return _steps(for_graphs(traced), signal)


def _steps(module: nn.Module, signal: Tensor) -> torch.export.ExportedProgram:
    """Return the steps of one run, or of the code itself where a run fixes the number of records.

    `len(x)` does that, which is a number of the run and nothing that a graph can ask for.
    """
    shapes = {INPUT: {0: torch.export.Dim("records")}}
    try:
        return torch.export.export(module, (signal,), dynamic_shapes=shapes, strict=False)
    except Exception:  # of many kinds; what is left of them comes again
        return torch.export.export(module, (signal,), dynamic_shapes=shapes, strict=True)


@contextmanager
def _step_by_step() -> Iterator[None]:
    """Keep transformers of torch from running as one fused step, which no graph knows."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters from warning, and from printing the code that they could not follow."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _answers(path: Path, signal: Tensor, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return what onnxruntime makes of the graph."""
    try:
        session = silent_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
        got = session.run(list(names), {INPUT: signal.numpy()})
    except Exception as error:  # onnxruntime raises kinds of its own
        raise UserError(f"onnxruntime cannot run the graph ({str(error).splitlines()[0]}); no file was written") from error
    return dict(zip(names, got, strict=True))


def _check(got: dict[str, np.ndarray], want: dict[str, Tensor]) -> float:
    """Return the largest difference between the graph's features and PyTorch's."""
    worst = 0.0
    for name, array in got.items():
        expected = want[name].numpy()
        if array.shape != expected.shape or not np.allclose(array, expected, rtol=RTOL, atol=ATOL):
            raise UserError(f"onnxruntime answers another {name!r} than PyTorch; no file was written")
        worst = max(worst, float(np.abs(array - expected).max(initial=0.0)))
    return worst
