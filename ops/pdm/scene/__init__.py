"""A scene of the PDM score, built from a lake's tables: ego, agents, lights, map and route."""
