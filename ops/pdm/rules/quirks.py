"""Where the devkit does something else than it means to. Not the differences between the two
versions: those are rules.

Published numbers have all of these, so they are on; turn one off to see what it changes (scores are
then no longer PDMS or EPDMS). One known quirk is not here: an arccosine just past 1 makes a track
dead ahead count as nowhere, which depends on the build of numpy (see collisions.py).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quirks:
    """True: as the devkit does it."""

    # The matrix that should penalise differences of accelerations is assigned over, so these are
    # penalised themselves.
    accelerations_penalised: bool = True
    # Of a track the object of the first sighting is kept, so a car that stood then counts as
    # standing for good.
    speed_of_first_sighting: bool = True
    # A track with one sighting cannot be interpolated and is put into every frame instead of its
    # own.
    single_sighting_everywhere: bool = True
    # v1 passes the number of samples as the filters' window, so accelerations and jerks are those
    # of one parabola.
    comfort_over_whole_plan: bool = True
    # v2 drops one history sample too many, so that without jitter 0.2 s lie between the last one
    # and now.
    history_ends_early: bool = True
    # v2 keeps 4 s of traffic, so states after 3.1 s are not looked at for the time to collision.
    ttc_until_traffic_ends: bool = True
    # Samples in an intersection are skipped before the count of lane keeping is reset, so it goes
    # on after them.
    intersections_pause_lane_keeping: bool = True
    # PDM-Closed looks for a leader at even steps only, so at step 1 its record is still zero and it
    # brakes.
    closed_brakes_at_first_step: bool = True
    # The record of the leader is made once for the five speeds of a path, so what one does not set
    # it has from another.
    closed_shares_leader_record: bool = True
    # Nothing keeps PDM-Closed's speed from going below zero.
    closed_speed_may_be_negative: bool = True
    # Cars that react take the ego's rear axle for its centre.
    idm_takes_rear_axle_for_center: bool = True


DEVKIT = Quirks()
