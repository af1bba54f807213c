"""`python -m extauthz` is the command `extauthz`."""

import sys

from extauthz.cli.main import main

sys.exit(main())
