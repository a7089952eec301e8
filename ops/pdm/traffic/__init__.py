"""The moving parts of a scene: logged and simulated road users, and the planner PDM-Closed."""
