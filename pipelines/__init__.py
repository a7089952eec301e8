"""How a run is put together: definitions, jobs, schedules, sensors, resources, presets and the command line."""
