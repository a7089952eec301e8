"""`latentvla show`: draw a log or a frame, or the index page over all logs."""

import argparse
from pathlib import Path

from pipelines.commands.target import add_target_arguments, lake_of
from storage.errors import ConfigError
from storage.printable import printable

# default folder of the pages; the index links to the pages of logs beside it
PAGES = Path("pages")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("log", nargs="?", help="without it: the index page over all logs")
    parser.add_argument("--frame", type=int, help="draw only this frame_index of the log")
    parser.add_argument(
        "--pages", action="store_true", help="with the index, draw the page of every log beside it"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="a file .html or, for a log, .png; default: a page in pages/",
    )
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Draw a log, or one frame of it, as a page or a picture; without a log, draw the index page
    over all logs.
    """
    from ops.pages.index_page import page_file, show_index
    from ops.pages.log_page import ShowConfig, show_log

    lake, frame = lake_of(options), options.frame
    if options.log is not None:
        name = options.log if frame is None else f"{options.log}-{frame}"
        file = options.out or page_file(PAGES, name)
        _print(show_log(lake, options.log, file, ShowConfig(), frame=frame))
        return 0
    if frame is not None:
        raise ConfigError(
            "--frame needs a log",
            expected="LOG --frame N",
            found=f"--frame {frame} without a log",
            do=f"latentvla show LOG --frame {frame}; the logs: latentvla logs",
        )
    index = options.out or PAGES / "index.html"
    for log in lake.log_ids("trajectories") if options.pages else ():
        _print(show_log(lake, log, page_file(index.parent, log, index.name), ShowConfig()))
    _print(show_index(lake, index))
    return 0


def _print(file: Path) -> None:
    print(printable(str(file), keep=""))
