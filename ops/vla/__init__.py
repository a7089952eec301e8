"""The VLA: the VLM fine-tuned on latent actions, and the planner that reads its hidden states."""
