"""What exists: the declared assets, their checks and the metadata people see. Nothing is computed here."""
