"""The commands of `latentvla`, one file each with `add_arguments` and `run`."""
