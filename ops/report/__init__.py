"""The report: one HTML file with scores, scenes, training curves and lineage."""
