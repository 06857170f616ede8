"""Print the version, the machine, the packages and the usable extras, for a bug report."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from feredge import __version__
from feredge.runtime.command import new_parser, run_command
from feredge.runtime.machine import describe_machine, missing_packages

PROGRAM = "python -m feredge"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    parser = new_parser(PROGRAM, __doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    return run_command(PROGRAM, lambda: print_facts(options.json), options.debug)


def print_facts(as_json: bool) -> int:
    """Print all facts as lines of text or as JSON."""
    facts, extras = describe_machine(), extra_states()
    if as_json:
        print(json.dumps({"feredge": __version__, **facts, "extras": extras}, indent=1))
        return 0
    print(f"feredge {__version__}, Python {facts['python']}, {facts['system']}")
    print(f"CPU: {facts['cpu']}, {facts['cores']} cores")
    print(f"GPU: {', '.join(facts['gpus']) or 'none found'}")
    for name, version in facts["packages"].items():
        print(f"{name} {version}")
    for extra, state in extras.items():
        print(f"extra {extra}: {state}")
    return 0


def extra_states() -> dict[str, str]:
    """Return `usable` or the missing packages for each extra."""
    try:
        missing = missing_packages()
    except ModuleNotFoundError:  # PackageNotFoundError is one: a checkout that is not installed
        return {}
    return {extra: f"missing: {', '.join(names)}" if names else "usable"
            for extra, names in missing.items()}


if __name__ == "__main__":
    sys.exit(main())
