"""Tests of assets/chain: the ledger, and the verbs that set logs aside."""
