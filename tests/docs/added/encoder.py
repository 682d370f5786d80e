"""An encoder."""

from torch import Tensor, nn

import melp_bench as mb


class Strides(mb.ECGEncoder):
    """One strided convolution, and the mean of what comes out."""

    def __init__(self, *, width: int = 16) -> None:
        super().__init__()
        self.spec, self.width = mb.SignalSpec(rate_hz=100.0, seconds=10.0), width
        self.layers = nn.Sequential(nn.Conv1d(12, width, 25, stride=25), nn.GELU(), nn.Conv1d(width, width, 1))

    def forward(self, signal: Tensor) -> mb.Features:
        tokens = self.layers(signal).transpose(1, 2)  # (B, N, D)
        return mb.Features(record=tokens.mean(dim=1), embedding=tokens.mean(dim=1), tokens=tokens)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    return [mb.Entry("added-encoder", Strides, "a strided convolution")]
