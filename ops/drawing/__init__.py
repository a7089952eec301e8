"""Pictures and pages: charts, scenes, contact sheets and the template of every page."""
