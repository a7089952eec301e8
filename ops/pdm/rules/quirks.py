"""The devkit's quirks: behaviour that its authors did not intend but published numbers contain.

All are on by default. Turn one off to measure its effect; the scores are then no longer PDMS or
EPDMS. One known quirk is missing: the arccosine of a cosine just past 1, which depends on the build
of numpy (see collisions.py). docs/metrics.md lists them all.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quirks:
    """True: as the devkit does it; False: as it was intended."""

    # The tracker should penalise differences of accelerations. Its matrix is assigned to instead of
    # added to, so the accelerations themselves are penalised.
    accelerations_penalised: bool = True
    # A track keeps the speed of its first sighting, so a car that stood then counts as standing in
    # all frames.
    speed_of_first_sighting: bool = True
    # A track with one sighting cannot be interpolated and is put into every frame instead of one.
    single_sighting_everywhere: bool = True
    # v1 passes the number of samples as the window of the filters, so accelerations and jerks are
    # those of one parabola.
    comfort_over_whole_plan: bool = True
    # v2 drops one history sample too many, so that without jitter the last one is 0.2 s before now.
    history_ends_early: bool = True
    # v2 keeps 4 s of traffic, so states after 3.1 s are not checked for the time to collision.
    ttc_until_traffic_ends: bool = True
    # Lane keeping skips samples in an intersection before it resets its count, so the count goes on
    # after them.
    intersections_pause_lane_keeping: bool = True
    # PDM-Closed looks for a leader at even steps only, so at step 1 the record of the leader is
    # still zero and it brakes.
    closed_brakes_at_first_step: bool = True
    # The five speeds of a path share one record of the leader, so a value that one of them does not
    # set comes from another.
    closed_shares_leader_record: bool = True
    # The speed of PDM-Closed can become negative.
    closed_speed_may_be_negative: bool = True
    # Reacting cars use the ego's rear axle as its centre.
    idm_takes_rear_axle_for_center: bool = True


DEVKIT = Quirks()
