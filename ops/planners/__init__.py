"""Train planners, open them, and plan with them."""
