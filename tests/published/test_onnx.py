"""Encoders as ONNX graphs: for any number of records, in silence, or with one line that says why not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from melp_bench.errors import UserError
from melp_bench.plugins import discover
from melp_bench.published.complex_steps import for_graphs, has_complex_numbers
from melp_bench.published.onnx import INPUT, export_onnx, silent_onnxruntime

pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
ENCODERS = discover().ecg_encoders


CASES = {
    "asks for len(x)": ("resnet1d-18", {}),
    "fused attention": ("conv-transformer", {}),
    "masked attention": ("ecg-jepa", {"depth": 1, "width": 48}),
    "a register": ("ecg-jepa-weimann-xs", {"depth": 1}),
}


@pytest.mark.parametrize(("name", "options"), list(CASES.values()), ids=list(CASES))
def test_a_graph_answers_for_any_number_of_records(
    name: str, options: dict[str, int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    entry = ENCODERS[name]
    encoder = entry.build(**entry.resolve(options)).eval()
    fused = torch.backends.mha.get_fastpath_enabled()
    export_onnx(encoder, tmp_path / "graph.onnx")
    assert "".join(capfd.readouterr()) == ""
    assert torch.backends.mha.get_fastpath_enabled() == fused
    assert [path.name for path in tmp_path.iterdir()] == ["graph.onnx"]
    session = silent_onnxruntime().InferenceSession(str(tmp_path / "graph.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for records in (1, 4):
        signal = torch.randn(records, len(encoder.spec.leads), encoder.spec.samples)
        with torch.no_grad():
            want = encoder(signal).present()
        assert set(names) == {key for key in want if not key.endswith("_mask")}
        for key, got in zip(names, session.run(names, {"signal": signal.numpy()}), strict=True):
            np.testing.assert_allclose(got, want[key].numpy(), rtol=1e-3, atol=1e-4)


def test_what_depends_on_weights_alone_is_computed_once_and_nothing_else() -> None:
    class Filtered(torch.nn.Module):
        """A signal filtered by a response that weights make by complex numbers, and scaled by itself."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            response = torch.polar(self.weight, self.weight) / torch.complex(self.weight, self.weight.exp())
            return torch.fft.irfft(torch.fft.rfft(x, n=14) * response.conj(), n=14) + x * x.mean() + self.weight.sum()

    module, x = Filtered(), torch.randn(3, 14)
    with torch.no_grad():
        traced = torch.export.export(module, (x,)).module()
        assert isinstance(traced, torch.fx.GraphModule)
        assert has_complex_numbers(traced)
        found = for_graphs(traced)
        torch.testing.assert_close(found(x), module(x))
    steps = [str(node.target) for node in found.graph.nodes if node.op == "call_function" and "guards" not in str(node.target)]
    assert [step.split(".")[1] for step in steps] == ["to", "fft_rfft", "mul", "fft_irfft", "to", "mean", "mul", "add", "add"]
    assert {buffer.dtype for name, buffer in found.named_buffers() if "folded" in name} == {torch.complex128, torch.float32}


def test_a_state_space_is_a_graph_to_within_rounding(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    assert export_onnx(ENCODERS["ecg-cpc-2.5s"].build(), tmp_path / "graph.onnx") < 2e-5
    assert "".join(capfd.readouterr()) == ""


def test_an_encoder_that_looks_for_heartbeats_is_refused_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="'HeartLang' cannot be written as a graph: Data-dependent") as caught:
        export_onnx(ENCODERS["heartlang"].build(), tmp_path / "graph.onnx")
    assert "\n" not in str(caught.value)
    assert "".join(capfd.readouterr()) == ""
    assert not list(tmp_path.iterdir())


def test_nothing_is_told_of_a_graph_that_is_run(tmp_path: Path) -> None:
    """Where no variable of a CI keeps it from it, onnxruntime left a number of the machine in the user's cache, and sent it."""
    from onnx import TensorProto, helper, save

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in (INPUT, "record")]
    graph = helper.make_graph([helper.make_node("Identity", [INPUT], ["record"])], "same", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    save(model, tmp_path / "graph.onnx")
    code = "import sys, torch; from pathlib import Path; from melp_bench.published.onnx import _answers; "
    code += "print(_answers(Path(sys.argv[1]), torch.ones(1), ('record',))['record'])"
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "https_proxy": "http://127.0.0.1:1"}
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "graph.onnx")], env=bare, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[1.]\n"
    assert not list((tmp_path / "home").rglob("*"))
