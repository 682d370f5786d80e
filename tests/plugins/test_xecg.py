"""xECG: its memories against recurrences step by step, what it is fed with against scipy, and its files in and out.

The recurrences are the paper's, in float64 and with plain exponentials: nothing keeps them in range.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import wfdb
from safetensors.torch import load_file, save_file
from scipy import signal as scipy_signal
from torch import Tensor

import melp_bench as mb
from melp_bench.errors import UserError
from melp_bench.plugins import discover
from melp_bench.published.export import export_checkpoint
from melp_bench.published.fitting import KeyLayout, fit, publish
from melp_bench.published.folder import import_checkpoint
from melp_bench.runs.building import load_model
from melp_bench.signal import conform
from melp_plugins.ecg.xecg import FAMILY, PATCH, XECG
from melp_plugins.ecg.xlstm import EPS, SLSTM, CausalConvolution, HeadNorm, MLSTMCell

REAL = os.environ.get("MELP_BENCH_REAL_ECG")
ENTRY = discover().ecg_encoders["xecg"]
SMALL = {"width": 32, "heads": 2, "blocks": "smm"}


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """Return the module in float64, each weight away from where it starts."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.double().parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module.eval()


def normalised(x: np.ndarray, heads: int, weight: Tensor) -> np.ndarray:
    """Return one token (D,), normalised head by head."""
    parts = [(part - part.mean()) / np.sqrt(part.var() + 1e-5) for part in np.split(x, heads)]
    return np.concatenate(parts) * (1 + weight.detach().numpy())


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_the_matrix_memory_is_that_of_a_recurrence() -> None:
    width, heads, tokens = 12, 2, 9
    torch.manual_seed(0)
    cell = shaken(MLSTMCell(width, heads))
    assert isinstance(cell, MLSTMCell)
    q, k, v = (torch.randn(1, tokens, width, dtype=torch.float64) for _ in range(3))
    found, size = cell(q, k, v)[0].detach().numpy(), width // heads
    given = torch.cat([q, k, v], dim=-1)[0]
    entry, keep = cell.igate(given).detach().numpy(), cell.fgate(given).detach().numpy()  # (N, H)
    matrix, count, highest = np.zeros((heads, size, size)), np.zeros((heads, size)), np.full(heads, -np.inf)
    for n in range(tokens):
        answers = []
        for head in range(heads):
            query, key, value = (x[0, n].reshape(heads, size)[head].numpy() for x in (q, k, v))
            forget = sigmoid(keep[n, head])
            matrix[head] = forget * matrix[head] + np.exp(entry[n, head]) * np.outer(value, key / np.sqrt(size))
            count[head] = forget * count[head] + np.exp(entry[n, head]) * key / np.sqrt(size)
            highest[head] = max(np.log(forget) + highest[head], entry[n, head])
            answers.append(matrix[head] @ query / (max(abs(count[head] @ query), 1.0) + EPS * np.exp(highest[head])))
        np.testing.assert_allclose(found[n], normalised(np.concatenate(answers), heads, cell.outnorm.weight), rtol=1e-9)


def test_the_scalar_memory_is_that_of_a_recurrence() -> None:
    width, heads, tokens = 8, 2, 9
    torch.manual_seed(0)
    layer = shaken(SLSTM(width, heads, 0.5))
    assert isinstance(layer, SLSTM)
    x = torch.randn(1, tokens, width, dtype=torch.float64)
    found, size = layer(x)[0].detach().numpy(), width // heads
    taps, at_zero = (p.detach().numpy() for p in (layer.conv1d.conv.weight[:, 0], layer.conv1d.conv.bias))
    maps = {name: getattr(layer, name).weight.detach().numpy() for name in ("fgate", "igate", "zgate", "ogate")}
    recurrent = layer.recurrent.detach().numpy().reshape(heads, size, 4, size)
    bias = layer.bias.detach().numpy().reshape(heads, 4, size)
    padded = np.concatenate([np.zeros((3, width)), x[0].numpy()])
    hidden = memory = count = np.zeros(width)
    for n in range(tokens):
        near = sum(taps[:, tap] * padded[n + tap] for tap in range(4)) + at_zero
        near = near * sigmoid(near)
        gates = np.zeros((4, width))
        for place, (name, sees) in enumerate(
            [("fgate", near), ("igate", near), ("zgate", padded[n + 3]), ("ogate", padded[n + 3])]
        ):
            for head in range(heads):
                rows = slice(head * size, (head + 1) * size)
                gates[place, rows] = (
                    maps[name][head] @ sees[rows] + hidden[rows] @ recurrent[head, :, place] + bias[head, place]
                )
        entry, forget = np.exp(gates[0]), sigmoid(gates[1])
        memory, count = forget * memory + entry * np.tanh(gates[2]), forget * count + entry
        hidden = sigmoid(gates[3]) * memory / count
        np.testing.assert_allclose(found[n], normalised(hidden, heads, layer.group_norm.weight), rtol=1e-9)


def test_gates_far_out_of_the_range_of_exponentials_stay_finite() -> None:
    torch.manual_seed(0)
    cell, layer = MLSTMCell(12, 2), SLSTM(12, 2, 0.5)
    cell.igate.bias.data += 200.0
    layer.bias.data += 200.0
    x = torch.randn(2, 9, 12)
    assert torch.isfinite(cell(x, x, x)).all()
    assert torch.isfinite(layer(x)).all()


def test_a_memory_reads_what_came_before_and_nothing_else() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 9, 12)
    later = x.clone()
    later[:, 5:] += 1.0
    cell = MLSTMCell(12, 2)
    for module in (SLSTM(12, 2, 0.5), CausalConvolution(12), lambda x: cell(x, x, x)):
        torch.testing.assert_close(module(later)[:, :5], module(x)[:, :5])
        assert (module(later) - module(x))[:, 5:].abs().amax(dim=-1).min() > 1e-4


def test_norms_are_torchs_group_norm() -> None:
    norm, x = HeadNorm(12, 3), torch.randn(2, 5, 12)
    norm.weight.data.normal_()
    want = torch.nn.functional.group_norm(x.flatten(0, 1), 3, 1 + norm.weight).view_as(x)
    torch.testing.assert_close(norm(x), want)


def test_blocks_read_in_turn_and_padding_is_no_part_of_a_record() -> None:
    torch.manual_seed(0)
    encoder, x = XECG(**SMALL).eval(), torch.randn(2, 12, 1000)  # type: ignore[arg-type]
    x[1, :, 700:] = 0.0
    with torch.no_grad():
        features = encoder(x)
        tokens = encoder.patch_embedding(x)
        tokens = encoder.blocks[0](tokens)
        tokens = encoder.blocks[1](tokens.flip(1)).flip(1)
        tokens = encoder.blocks[2](tokens)
        empty = encoder(torch.zeros(1, 12, 1000))
    assert features.tokens is not None
    torch.testing.assert_close(features.tokens, tokens)
    torch.testing.assert_close(features.record, torch.stack([tokens[0].mean(dim=0), tokens[1, : 700 // PATCH].mean(dim=0)]))
    assert not empty.record.any()
    even = XECG(width=32, heads=2, blocks="ss").eval()
    torch.testing.assert_close(even(x).tokens, even.blocks[1](even.blocks[0](even.patch_embedding(x)).flip(1)).flip(1))


@pytest.mark.skipif(not REAL, reason="set MELP_BENCH_REAL_ECG to the folder with ptb-xl/")
def test_it_gets_millivolts_at_100_hz_by_the_fourier_transform_and_zeros_for_leads_that_lack() -> None:
    read = wfdb.rdrecord(str(Path(str(REAL)) / "ptb-xl" / "records500" / "00000" / "00002_hr"))
    record = read.p_signal.T.copy()
    want = scipy_signal.resample(record, 1000, axis=1)
    fed = conform(torch.from_numpy(record)[None], rate_hz=500.0, leads=mb.LEADS, spec=XECG.spec)[0]
    np.testing.assert_allclose(fed.numpy(), want, atol=1e-5)
    one = conform(torch.from_numpy(record)[None, 1:2], rate_hz=500.0, leads=("II",), spec=XECG.spec)[0]
    np.testing.assert_allclose(one[1].numpy(), want[1], atol=1e-5)
    assert not one[[0, *range(2, 12)]].any()


def test_its_file_goes_in_and_out_bit_for_bit_with_what_pretraining_left_beside_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = XECG().state_dict()
    tensors = publish(own, {}, FAMILY, KeyLayout())
    assert "core.model.blocks.8.xlstm.slstm_cell._recurrent_kernel_" in tensors
    tensors["mask_token"] = torch.randn(1024)
    save_file(tensors, tmp_path / "model.safetensors")
    made = import_checkpoint(str(tmp_path / "model.safetensors"), ENTRY, tmp_path / "ours")
    assert list(made.unused) == ["mask_token"]
    model, _ = load_model(tmp_path / "ours", discover())
    assert all(torch.equal(model.encoder.state_dict()[key], tensor) for key, tensor in own.items())
    export_checkpoint(tmp_path / "ours", ENTRY, tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in tensors.items())


def small_file() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return publish(XECG(**SMALL).state_dict(), {}, FAMILY, KeyLayout())  # type: ignore[arg-type]


@pytest.mark.parametrize("prefix", ["", "model.", "module._orig_mod."])
def test_the_student_of_a_training_run_is_read_and_its_teacher_named(prefix: str) -> None:
    tensors = small_file()
    teacher = {f"_teacher.{key}": tensor + 1 for key, tensor in tensors.items()}
    beside = {
        "mask_token": torch.zeros(32),
        "attn_pool.probe": torch.zeros(1, 1, 32),
        "reconstruction.deconv.weight": torch.ones(2),
    }
    whole = {prefix + key: tensor for key, tensor in (teacher | tensors | beside).items()}
    fitted = fit(whole, FAMILY, lambda: XECG(**SMALL))  # type: ignore[arg-type]
    assert all(torch.equal(fitted.module.state_dict()[key], tensor) for key, tensor in fitted.weights.items())
    assert fitted.unused.keys() == {prefix + key for key in (*teacher, *beside)}


def test_the_layout_of_the_packages_other_path_is_refused_by_its_shape() -> None:
    tensors = small_file()
    key = FAMILY.anchor
    tensors[key] = tensors[key].transpose(1, 2).contiguous()
    with pytest.raises(UserError, match=r"_recurrent_kernel_' has shape \(2, 64, 16\), 'xecg' wants \(2, 16, 64\)"):
        fit(tensors, FAMILY, lambda: XECG(**SMALL))  # type: ignore[arg-type]


@pytest.mark.parametrize(("options", "says"), [({"blocks": "sx"}, "'sx'"), ({"blocks": ""}, "''"), ({"heads": 3}, "3 heads")])
def test_options_that_make_no_model_are_one_line(options: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        ENTRY.build(**ENTRY.resolve(options))
    assert "\n" not in str(caught.value)
