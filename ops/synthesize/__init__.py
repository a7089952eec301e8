"""The synthetic driving world: a procedural town, traffic, an expert ego, rendered cameras."""
