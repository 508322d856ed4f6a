"""Look at segmented slides in the browser, correct them and save: `python scripts/view.py OUT`.

OUT is the --output_dir of configs/inference.yaml or configs/cohort.yaml. Tiles come from the slides at full resolution;
where a slide is not found, from its report.html. Corrections go to glomeruli_corrected.geojson beside the original.
Only this machine can reach the server. Ctrl-C ends it.
"""

import argparse
import sys
from contextlib import suppress
from pathlib import Path

from bundle.errors import BundleError
from bundle.report.cases import find_cases
from bundle.report.server import ReportServer


def main(arguments: list[str] | None = None) -> int:
    """Serve until interrupted; give the exit status."""
    options = _parser().parse_args(arguments)
    try:
        cases = find_cases(options.folder, options.slides)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    try:
        server = ReportServer(cases, options.port)
    except (OSError, OverflowError) as error:
        print(f"error: port {options.port} cannot be used ({error}); choose another with --port", file=sys.stderr)
        return 1
    for name, case in cases.items():
        if case.image is None:
            print(f"{name}: slide not found, shown as its report holds it (--slides FOLDER)", file=sys.stderr)
    with server, suppress(KeyboardInterrupt):
        print(server.url, flush=True)
        server.serve_forever()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folder", type=Path, metavar="OUT", help="folder of outputs: of one slide, or a sub-folder for each")
    add("--slides", type=Path, nargs="+", default=[], help="slides, or folders of slides; default: beside the outputs")
    add("--port", type=int, default=8642, help="port of 127.0.0.1; 0 takes a free one (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
