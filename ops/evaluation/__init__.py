"""Every planner on every test scene: PDM score, displacement errors, intervals, zero shot."""
