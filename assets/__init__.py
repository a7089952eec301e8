"""What exists: the declared assets, their checks and the metadata people see. Nothing is computed
here.
"""

import warnings

import dagster as dg

# Backfill policies are how one run takes many logs; Dagster calls them beta and says so once an
# asset.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
