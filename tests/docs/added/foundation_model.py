"""A foundation model that is fed as its authors fed it: eight leads of 5 s crops, filtered, features averaged."""

from torch import Tensor, nn

import melp_bench as mb


class Filtered(mb.ECGEncoder):
    """It asks for its own preparation, which no other encoder of the same store notices."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 12
        self.spec = mb.SignalSpec(
            rate_hz=250.0,
            seconds=5.0,
            leads=("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"),
            scaling=mb.Scaling.ZSCORE_LEAD,
            filter=mb.Filter(band=(0.5, 40.0), notch_hz=50.0),
            crops=mb.Crops(overlap=0.5),
            missing_leads="zero",
        )
        self.layer = nn.Conv1d(8, self.width, 125, stride=125)

    def forward(self, signal: Tensor) -> mb.Features:
        tokens = self.layer(signal).transpose(1, 2).tanh()  # (B, N, D)
        return mb.Features(record=tokens.mean(dim=1), embedding=tokens.mean(dim=1), tokens=tokens)


@mb.hookimpl
def melp_ecg_encoders() -> list[mb.Entry[mb.ECGEncoder]]:
    return [mb.Entry("added-foundation", Filtered, "eight filtered leads, in crops", license="MIT")]
