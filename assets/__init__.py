"""The declared assets, their checks and the metadata that people see; the computing is in ops."""
