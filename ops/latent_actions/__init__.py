"""Latent actions: learn the codebook, measure it, and label rows with its codes."""
