"""Loggers: where the values of a pretraining go, beside the log of JSON lines that is always written."""
