import pytest
from saltfactories.utils.functional import Loaders

from test.salt.minion import configuration


@pytest.fixture(scope="session")
def loaders(tmp_path_factory) -> Loaders:
    """Salt's own loaders with this checkout's modules and states."""
    return Loaders(configuration(tmp_path_factory.mktemp("minion")))
