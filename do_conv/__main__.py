"""`python -m do_conv` is the command line `do-conv`."""

import sys

from do_conv.cli import main

if __name__ == "__main__":
    sys.exit(main())
