"""Published checkpoints: read safely, fitted strictly to our modules, and written back under their published names.

- `family.Family` says how a family's published keys relate to our module's.
- `published.read_published` reads a file or `hf:owner/name[/file]` without running anything in it.
- `parts.part_of` says which of the state dicts in a file is the family's; where it holds several, the user chooses by `#NAME`.
- `fitting.fit` loads tensors into a module: every key used, or listed as unused with a reason; all or nothing.
- `folder.import_checkpoint` writes one of our folders; `export.export_checkpoint` goes back to a published file.
- `graph.export_onnx` writes an ECG encoder as a graph.
"""
