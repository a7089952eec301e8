"""The rules of the PDM score: collisions, areas, comfort, progress, tracking, aggregation."""
