"""The literature's label files: which file is what, read as they are, verified, and audited against their own statements."""

from melp_bench.label_files.audit import Audit, audit
from melp_bench.label_files.layout import PARTS, Layout, layouts
from melp_bench.label_files.read import LabelFile, LabelFiles, read_files

__all__ = ["PARTS", "Audit", "LabelFile", "LabelFiles", "Layout", "audit", "layouts", "read_files"]
