"""The synthetic driving world: a procedural town, its traffic, an expert ego and a rendered camera."""
