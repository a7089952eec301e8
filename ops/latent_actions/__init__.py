"""Learn the codebook of latent actions, measure it, and label every row with its codes."""
