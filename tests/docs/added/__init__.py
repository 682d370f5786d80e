"""One of everything that can be added, each in one file, or in one and a recipe: what `docs/design.md` promises."""
