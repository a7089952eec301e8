"""The procedural town: street grid, lanes, signals and routes."""
