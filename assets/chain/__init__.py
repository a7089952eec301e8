"""What the nine assets share: their table, one materialization, checks, metadata, code versions."""
