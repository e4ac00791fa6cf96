from test.lab import apt

TARGETS = """\
http://mirror.example/debian/ bookworm main Debian
http://mirror.example/debian/ bookworm contrib Debian
http://mirror.example/debian/ bookworm main Debian
http://mirror.example/debian/ bookworm-updates main Debian
https://mirror.example/debian-security/ bookworm-security main Debian
http://mirror.example/debian/ trixie main Debian
http://packages.example/tool/ bookworm stable Tool Makers Ltd
file:/srv/repository/ bookworm main Debian
"""


def test_the_machines_debian_12_suites_become_the_hosts_sources():
    assert apt.sources_of_targets(TARGETS) == [
        "deb http://mirror.example/debian bookworm main contrib",
        "deb http://mirror.example/debian bookworm-updates main",
        "deb http://HTTPS///mirror.example/debian-security bookworm-security main",
    ]


def test_another_release_comes_from_the_same_mirrors(monkeypatch):
    monkeypatch.setattr(apt, "run", lambda *_, **__: TARGETS)
    apt.debian_sources.cache_clear()
    assert apt.debian_sources("trixie") == [
        "deb http://mirror.example/debian trixie main contrib",
        "deb http://mirror.example/debian trixie-updates main",
        "deb http://HTTPS///mirror.example/debian-security trixie-security main",
    ]
    apt.debian_sources.cache_clear()


def test_no_target_is_no_source():
    assert apt.sources_of_targets("") == []
