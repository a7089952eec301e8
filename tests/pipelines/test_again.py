"""`latentvla run --again`: an asset, or one log of it, is made again although it is current."""

LOG, OTHER = "A-train-0000", "A-train-0001"
UNTIL = ("--until", "trajectories")
