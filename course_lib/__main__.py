"""`python -m course_lib doctor [--json]`: is this machine ready for the course?"""

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command named on the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m course_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser("doctor", help="say whether this machine is ready")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)

    from course_lib import doctor as examination  # noqa: PLC0415 - `--help` needs none of it

    return examination.main(as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
