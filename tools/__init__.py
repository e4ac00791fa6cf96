"""What an operator runs from the checkout beside salt-ssh itself."""

import sys
from pathlib import Path

# As Salt's loader does for execution modules.
sys.path.append(str(Path(__file__).resolve().parents[1] / "_utils"))
