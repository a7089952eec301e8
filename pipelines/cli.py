"""The command line `latentvla`: each verb is a few lines over the code that the pipeline itself
uses.

Heavy libraries are imported inside the verbs, so that `latentvla --help` is quick and process pools
start fast.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.environment import RunTarget, run_target
from storage.errors import ConfigError, LatentVLAError
from storage.lake import ASSET_NAMES, Lake

if TYPE_CHECKING:
    from assets.chain.pipeline import Pipeline

# where `show` draws when it is not told where: the index finds the logs' pages beside it
PAGES = Path("pages")
Verb = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code; an error of ours is one message, not a stack trace."""
    options = _parser().parse_args(arguments)
    try:
        code = options.verb(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads has seen enough: latentvla ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a program that the signal ended
    except LatentVLAError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "stopped; a training goes on from its last checkpoint when it is started again",
            file=sys.stderr,
        )
        return 130


def run(options: argparse.Namespace) -> int:
    """Run the pipeline; assets whose artefact is current are left as they are."""
    from pipelines.commands.run import open_instance, require_possible, run_pipeline
    from pipelines.commands.status import told

    pipeline = _pipeline(options)
    require_possible(pipeline)
    with open_instance() as instance:
        summary = run_pipeline(pipeline, options.until, instance, verbose=options.verbose)
    print(told(pipeline, summary, options.until))
    return 1 if summary.failed else 0


def status(options: argparse.Namespace) -> int:
    """Each asset: current, stale or missing; and the logs in quarantine."""
    from pipelines.commands.status import status_text

    print(status_text(_pipeline(options)))
    return 0


def config(options: argparse.Namespace) -> int:
    """Print the whole configuration of a scale as JSON."""
    from pipelines.presets import preset

    print(json.dumps(asdict(preset(_places(options).scale)), indent=2, default=str))
    return 0


def logs(options: argparse.Namespace) -> int:
    """List the logs of the pipeline, with their split and their place in the pipeline."""
    from pipelines.commands.status import logs_text

    print(logs_text(_pipeline(options)))
    return 0


def lineage(options: argparse.Namespace) -> int:
    """What made an artefact, up to the raw logs; from the lake's files alone."""
    from pipelines.commands.lineage import lineage_text

    print(lineage_text(_lake(options), options.name, every_log=options.every_log))
    return 0


def sql(options: argparse.Namespace) -> int:
    """Ask the tables of the lake."""
    from pipelines.commands.status import table_text
    from storage.catalogue import query

    print(table_text(query(_lake(options), options.query), options.rows))
    return 0


def score(options: argparse.Namespace) -> int:
    """Print the score table of the evaluation, or score a file of plans against the scenes of the
    lake.
    """
    if options.plans is None:
        from pipelines.commands.status import score_text

        print(score_text(_lake(options)))
    else:
        from pipelines.commands.score import score_file

        print(
            score_file(
                options.plans,
                _lake(options),
                versions=options.versions,
                expect_split=options.expect_split,
                out=options.out,
                processes=options.processes,
                devkit_cache=options.against_devkit,
            )
        )
    return 0


def ablate(options: argparse.Namespace) -> int:
    """Train the method and the method without each of its parts over several seeds, and print what
    each part is worth.
    """
    from pipelines.commands.ablate import ablate_pipeline

    print(ablate_pipeline(_pipeline(options), options.seeds, options.variants))
    return 0


def show(options: argparse.Namespace) -> int:
    """Draw a log, or one frame of it, as a page or a picture; without a log, the index page over
    all logs.
    """
    from ops.pages.index_page import show_index
    from ops.pages.log_page import ShowConfig, show_log

    lake = _lake(options)
    if options.log is not None:
        name = options.log if options.frame is None else f"{options.log}-{options.frame}"
        print(
            show_log(
                lake,
                options.log,
                options.out or PAGES / f"{name}.html",
                ShowConfig(),
                frame=options.frame,
            )
        )
        return 0
    if options.frame is not None:
        raise ConfigError(
            "a frame is one of a log",
            found=f"--frame {options.frame} without a log",
            do=f"latentvla show LOG --frame {options.frame}; the logs: latentvla show",
        )
    index = options.out or PAGES / "index.html"
    for log in lake.log_ids("trajectories") if options.pages else ():
        print(show_log(lake, log, index.parent / f"{log}.html", ShowConfig()))
    print(show_index(lake, index))
    return 0


def predict(options: argparse.Namespace) -> int:
    """Plan with the student for one image: prints eight poses [x m, y m, yaw rad], one each 0.5 s,
    seen from the car.
    """
    from ops.student.predict import predict_file

    plan = predict_file(
        options.model or _lake(options).asset("student"),
        options.image,
        speed_mps=options.speed,
        acceleration_mps2=options.acceleration,
        command=options.command,
    )
    print(json.dumps([[round(float(value), 3) for value in pose] for pose in plan]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="latentvla", description="From raw driving logs to a small planner."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(function: Verb) -> argparse.ArgumentParser:
        made = verbs.add_parser(
            function.__name__, help=(function.__doc__ or "").strip(), description=function.__doc__
        )
        made.set_defaults(verb=function)
        made.add_argument(
            "--scale", help="smoke | synthetic | navsim; default: LATENTVLA_SCALE, then synthetic"
        )
        made.add_argument(
            "--source", help="format of the raw logs: openscene | nuscenes | kitti_raw"
        )
        made.add_argument("--raw", help="folder of your raw logs; default: the synthetic world")
        made.add_argument("--lake", help="folder of the artefacts; default: lake/<scale>")
        return made

    made = verb(run)
    made.add_argument(
        "--until", default=ASSET_NAMES[-1], help=f"last asset to make: {' | '.join(ASSET_NAMES)}"
    )
    made.add_argument("--verbose", action="store_true", help="show Dagster's own log")
    for function in (status, logs, config):
        verb(function)
    made = verb(score)
    made.add_argument(
        "plans", type=Path, nargs="?", help="Parquet with log_id, frame_index, planner, poses, dt_s"
    )
    made.add_argument("--versions", default="v1,v2", help="v1 (PDMS), v2 (EPDMS) or both")
    made.add_argument(
        "--expect-split",
        default="",
        help="train | val | test: count its scenes without a plan as well",
    )
    made.add_argument(
        "--out", type=Path, help="results, one row a plan and version: a file .parquet or .csv"
    )
    made.add_argument(
        "--processes", type=int, default=1, help="logs that are scored at the same time"
    )
    made.add_argument(
        "--against-devkit",
        type=Path,
        metavar="METRIC_CACHE",
        help="score with the installed NAVSIM devkit too, from its metric cache, and print the differences",
    )
    made = verb(ablate)
    made.add_argument("--seeds", type=int, default=5, help="how many seeds, from the run's own on")
    made.add_argument(
        "--variants",
        default="",
        help="names with commas between, such as average_pool; default: all",
    )
    made = verb(lineage)
    made.add_argument("name", help="a asset, such as student, or asset/log_id")
    made.add_argument("--every-log", action="store_true", help="name every log")
    made = verb(sql)
    made.add_argument(
        "query", help="for example: select split, count(*) from trajectories group by split"
    )
    made.add_argument("--rows", type=int, default=40, help="rows to print")
    made = verb(show)
    made.add_argument("log", nargs="?", help="without it: the index page over all logs")
    made.add_argument("--frame", type=int, help="frame_index")
    made.add_argument(
        "--pages", action="store_true", help="with the index, draw the page of every log beside it"
    )
    made.add_argument(
        "--out", type=Path, help="a file that ends in .html or, for a log, .png; default: in pages/"
    )
    made = verb(predict)
    made.add_argument("image", type=Path)
    made.add_argument("--speed", type=float, required=True, help="m/s")
    made.add_argument("--acceleration", type=float, default=0.0, help="m/s2")
    made.add_argument("--command", default="straight", help="left | straight | right | unknown")
    made.add_argument("--model", type=Path, help="folder of a student; default: that of the lake")
    return parser


def _places(options: argparse.Namespace) -> RunTarget:
    return run_target(
        scale=options.scale, source=options.source, raw=options.raw, lake=options.lake
    )


def _pipeline(options: argparse.Namespace) -> "Pipeline":
    from pipelines.environment import open_pipeline

    return open_pipeline(_places(options))


def _lake(options: argparse.Namespace) -> Lake:
    return Lake(Path(_places(options).lake))


if __name__ == "__main__":
    sys.exit(main())
