"""The study on logs without labels: what latent actions are worth where few logs are labelled."""
