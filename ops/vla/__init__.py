"""Fine-tune the VLM on latent actions and fuse it with a planner."""
