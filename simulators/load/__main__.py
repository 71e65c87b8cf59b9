"""``python -m simulators.load``: the same as ``shopfloor simulate load``."""

import argparse
import sys

from simulators.load import command

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m simulators.load", description=command.__doc__)
    command.add_arguments(parser)
    sys.exit(command.main(parser.parse_args()))
