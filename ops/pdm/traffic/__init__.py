"""What moves in a PDM scene: recorded and reacting road users, and the PDM-Closed planner."""
