"""Evaluations of this project, each one file; what several share lies beside them."""
