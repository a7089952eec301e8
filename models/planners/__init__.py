"""The networks that plan: the planner, its fusion with a VLM, the student and the blind MLP."""
