"""The road users of the synthetic world, its expert driver and its rare events."""
