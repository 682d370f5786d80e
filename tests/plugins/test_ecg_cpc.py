"""ECG-CPC's S4: the kernel against a dense recurrence, its state space against HiPPO, causality, and shorter records."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from melp_plugins.ecg.ecg_cpc import STEPS, S4Kernel, S4Layer, legs_states


def both(pairs: np.ndarray) -> np.ndarray:
    """Return complex values and their conjugates behind them, (..., 2 S), of (..., S, 2)."""
    half = pairs[..., 0].astype(np.complex128) + 1j * pairs[..., 1]
    return np.concatenate([half, half.conj()], axis=-1)


def dense_kernel(kernel: S4Kernel, channel: int) -> np.ndarray:
    """Return the impulse response of one channel, step by step in float64, with the factor in C taken back."""
    tensors = {name: tensor.detach().double().numpy() for name, tensor in kernel.state_dict().items()}
    b, c, p, q = (both(tensors[name][0, channel]) for name in "BCPQ")
    a, eye = np.diag(both(tensors["w"][channel])) - np.outer(p, q), np.eye(len(b))
    dt = np.exp(tensors["log_dt"][channel])
    backwards = np.linalg.inv(eye - dt / 2 * a)
    step, entry = backwards @ (eye + dt / 2 * a), backwards @ (dt * b)
    reader = c @ np.linalg.inv(eye - np.linalg.matrix_power(step, STEPS))
    out, state = np.zeros(STEPS), entry
    for index in range(STEPS):
        value = reader @ state
        assert abs(value.imag) < 1e-9 * (1 + abs(value.real))
        out[index], state = value.real, step @ state
    return out


@pytest.mark.parametrize("free", [False, True], ids=["as it is built", "any state space"])
def test_the_kernel_is_that_of_a_dense_recurrence(free: bool) -> None:
    torch.manual_seed(0)
    kernel = S4Kernel(3, 4)
    if free:  # with a correction that is not symmetric
        for name, low in (("w", -0.5), ("P", 0.2), ("Q", 0.2), ("B", 1.0)):
            getattr(kernel, name).copy_(low + 0.1 * torch.randn_like(getattr(kernel, name)))
    with torch.no_grad():
        found = kernel().double().numpy()
    for channel in range(3):
        want = dense_kernel(kernel, channel)
        assert np.abs(found[channel] - want).max() < 2e-4 * np.abs(want).max()


def test_the_state_space_is_hippos() -> None:
    w, b, p = (values.numpy() for values in legs_states(4))
    low = np.concatenate([p, p.conj()])
    a = np.diag(np.concatenate([w, w.conj()])) - np.outer(low, low.conj())
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(a).real), np.arange(-8.0, 0.0), atol=1e-3)  # a triangle's diagonal
    assert (w.imag > 0).all()
    assert np.linalg.norm(np.concatenate([b, b.conj()])) == pytest.approx(np.sqrt((2 * np.arange(8) + 1).sum()))


def test_a_token_sees_itself_and_those_before_it_and_a_shorter_record_has_the_same_kernel() -> None:
    torch.manual_seed(0)
    layer, x = S4Layer(6, 4), torch.randn(2, 6, STEPS)
    later = x.clone()
    later[..., 700:] += 1.0
    with torch.no_grad():
        whole, changed, short = layer(x), layer(later), layer(x[..., :300])
    torch.testing.assert_close(changed[..., :700], whole[..., :700], rtol=1e-4, atol=1e-5)
    assert (changed - whole)[..., 700:].abs().amax(dim=(0, 1)).min() > 1e-3
    torch.testing.assert_close(short, whole[..., :300], rtol=1e-4, atol=1e-5)
