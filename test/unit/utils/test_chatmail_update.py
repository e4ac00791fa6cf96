"""Records are published where the key is known, and what serves other purposes stays."""

import functools

import pytest
from salt.exceptions import CommandExecutionError

import chatmail_update
import chatmail_zone
from test.support.dns_servers import NameServer, UpdateServer, on_one_port
from test.support.zones import (
    APEX,
    CERTIFICATE,
    GOOD,
    IPV4,
    IPV6,
    KEYS,
    NAME_SERVERS,
    RECOMMENDED,
    REQUIRED,
    SETTINGS,
    WANTED,
    not_ok,
    replaced,
    statuses,
)


def test_a_key_file_is_read_as_tsig_keygen_writes_it(tmp_path):
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text('key "relay" {\n\talgorithm hmac-sha256;\n\tsecret "c2VjcmV0";\n};\n')
    assert chatmail_update.read_key(str(path)) == ("relay", "hmac-sha256", "c2VjcmV0")


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ('key "relay" { algorithm hmac-sha256; secret "c2VjcmV0"; };', 0o644, "chmod 600"),
        ('key "relay" { secret "c2VjcmV0"; };', 0o600, "is not a TSIG key file"),
        ("c2VjcmV0", 0o600, "is not a TSIG key file"),
    ],
    ids=["open to others", "no algorithm", "something else"],
)
def test_a_key_file_that_cannot_be_used_is_refused_without_showing_it(tmp_path, text, mode, message):
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(CommandExecutionError, match=message) as caught:
        chatmail_update.read_key(str(path))
    assert "c2VjcmV0" not in str(caught.value)


SECRET = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text(f'key "relay" {{ algorithm hmac-sha256; secret "{SECRET}"; }};')
    return str(path)


@pytest.fixture
def publish(key_file):
    """Publish to a primary that serves ``text``; its secondary gets what was published, unless it ``lags``."""
    servers = []

    def run(text, keys, lags=False, wanted=WANTED):
        root = "@ NS root.\nroot. A 127.0.0.2\nexample.org. NS ns1.example.org.\nns1.example.org. A 127.0.0.4\n"
        both = {"example.org.": NAME_SERVERS + text}
        port, started = on_one_port(
            functools.partial(NameServer, "127.0.0.2", zones={".": root}),
            functools.partial(NameServer, "127.0.0.4", zones=both),
            functools.partial(NameServer, "127.0.0.5", zones=both),
        )
        servers.extend(started)
        taking = started[1:2] if lags else started[1:]
        servers.append(UpdateServer("127.0.0.6", port, keys, "example.org.", taking))
        done, after = chatmail_update.publish(wanted, ["127.0.0.2"], "127.0.0.6", key_file, seconds=1, port=port)
        return done, after.as_result()

    yield run
    for server in servers:
        server.close()


def test_into_an_empty_zone_everything_is_published(publish):
    done, after = publish("", {"relay": SECRET})
    assert done.keys() == REQUIRED | RECOMMENDED
    assert done[f"{APEX} MX"] == {"old": "nothing", "new": f"10 {APEX}"}
    assert not_ok(after) == {}


def test_only_what_is_not_right_is_published_and_other_texts_stay(publish):
    text = replaced("v=spf1 a ~all", "v=spf1 -all") + f'{APEX} TXT "a \\"b\\" \\195"\n'
    text = text.replace(f"www.{APEX} ", "else.example.org. ") + f"www.{APEX} A 192.0.2.99\n"
    done, after = publish(text, {"relay": SECRET})
    assert done.keys() == {f"{APEX} TXT", f"www.{APEX} CNAME"}
    assert not_ok(after) == {}
    assert r'"a \"b\" \195"' in after["recommended"][f"{APEX} TXT"]["found"]


def test_an_address_that_the_relay_does_not_have_is_withdrawn(publish):
    wanted = chatmail_zone.wanted(SETTINGS, (IPV4,), (), KEYS, CERTIFICATE)
    done, after = publish(GOOD, {"relay": SECRET}, wanted=wanted)
    assert done == {f"{APEX} AAAA": {"old": IPV6, "new": ""}}
    assert f"{APEX} AAAA" not in statuses(after)


def test_a_right_zone_is_not_touched(publish):
    assert publish(GOOD, {})[0] == {}


def test_a_server_that_does_not_know_the_key_is_reported_without_it(publish):
    with pytest.raises(CommandExecutionError, match=r"took no update of .* with the key relay") as caught:
        publish("", {"other": SECRET})
    assert SECRET not in str(caught.value)


def test_a_secondary_that_lags_is_waited_for_and_then_named(publish):
    with pytest.raises(CommandExecutionError, match="after 1 s the authoritative servers do not serve it") as caught:
        publish("", {"relay": SECRET}, lags=True)
    assert "ns2.example.org. (127.0.0.5) has nothing" in str(caught.value)
