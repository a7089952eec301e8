"""The latent-action model: inverse and forward dynamics around a quantizer."""
