"""An ECG encoder as an ONNX graph, checked with onnxruntime before it is kept.

Shapes: B records (any number), L leads, T samples.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor, nn

from melp_bench.components import ECGEncoder
from melp_bench.errors import UserError
from melp_bench.home import TEMPORARY, commit, make_folder

INPUT = "signal"
TRACED, CHECKED = 2, 3  # records
RTOL, ATOL = 1e-3, 1e-4
SCALES = ("rhythm", "embedding", "beats", "tokens")


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
        import onnxruntime
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
    partial = file.with_name(f"{TEMPORARY}{file.name}-{uuid4().hex}")
    try:
        _write(Named(encoder, names), signal[:TRACED], names, partial)
        session = onnxruntime.InferenceSession(str(partial), providers=["CPUExecutionProvider"])
        got = session.run(list(names), {INPUT: signal.numpy()})
        worst = _check(dict(zip(names, got, strict=True)), found)
        with partial.open("rb+") as handle:
            commit(handle.fileno(), partial, file)
    finally:
        partial.unlink(missing_ok=True)
    return worst


def _write(module: Named, signal: Tensor, names: tuple[str, ...], path: Path) -> None:
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (signal,),
                str(path),
                input_names=[INPUT],
                output_names=list(names),
                dynamic_shapes={INPUT: {0: torch.export.Dim("records")}},
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # torch's exporter raises kinds of its own, and what the encoder's own code raises
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{type(module.encoder).__name__!r} cannot be written as a graph: {reason}") from error
    finally:
        quiet.setLevel(level)


def _check(got: dict[str, np.ndarray], want: dict[str, Tensor]) -> float:
    """Return the largest difference between the graph's features and PyTorch's."""
    worst = 0.0
    for name, array in got.items():
        expected = want[name].numpy()
        if array.shape != expected.shape or not np.allclose(array, expected, rtol=RTOL, atol=ATOL):
            raise UserError(f"onnxruntime answers another {name!r} than PyTorch; no file was written")
        worst = max(worst, float(np.abs(array - expected).max(initial=0.0)))
    return worst
