"""Evaluations: the contract, and what every evaluation is handed. The evaluations themselves are plugins."""

from melp_bench.evaluations.evaluation import Evaluation, Measurement

__all__ = ["Evaluation", "Measurement"]
