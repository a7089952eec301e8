"""The latent-action model: inverse and forward dynamics with a quantizer between."""
