"""The procedural town: streets, lanes, signals and routes."""
