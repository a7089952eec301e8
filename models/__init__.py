"""Networks and losses. No paths and no formats in here."""
