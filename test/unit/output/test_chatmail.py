"""What functions return, as an operator reads it."""

import pytest

from _output import chatmail


@pytest.fixture
def configure_loader_modules():
    return {chatmail: {"__opts__": {"color": False}}}


@pytest.mark.parametrize(
    ("result", "text"),
    [
        pytest.param("; a zone\na. 3600 IN A 192.0.2.1\n", "; a zone\na. 3600 IN A 192.0.2.1", id="text"),
        pytest.param({"success": True, "result": "Well."}, "Well.", id="result"),
        pytest.param({"success": False, "result": "Bad.", "report": "All of it."}, "All of it.", id="report"),
        pytest.param({"name": "a.", "type": "TXT", "value": "v=1"}, "TXT    a.  v=1", id="record"),
        pytest.param(
            [
                {"name": "a.", "type": "MX", "values": ["10 a."], "required": True},
                {"name": "a.", "type": "A", "values": [], "required": False},
            ],
            "required     MX     a.  10 a.\nrecommended  A      a.  not known yet",
            id="records",
        ),
        pytest.param(
            {
                "certificates": [
                    {
                        "names": ["a.test", "b.test"],
                        "issuer": "itself",
                        "days_left": 89,
                        "places": [{"port": 25, "daemon": "postfix"}, {"port": 993, "daemon": "dovecot"}],
                    }
                ],
                "not_served": [{"port": 443, "daemon": "nginx", "problem": "refused"}],
            },
            "a.test, b.test; issued by itself; 89 days left\n  25 postfix, 993 dovecot\n"
            "not served\n  443 nginx: refused",
            id="certificates",
        ),
    ],
)
def test_results_are_told_in_few_lines(result, text):
    assert chatmail.output({"relay": result}) == text


def test_marks_have_a_color_on_a_terminal(monkeypatch):
    monkeypatch.setitem(chatmail.__opts__, "color", True)
    good, bad = chatmail.output({"relay": {"report": "✓ A\n✗ MX"}}).split("\n")
    assert "32m✓" in good
    assert "31m✗" in bad
    assert good.endswith(" A")


def test_what_has_no_known_form_is_shown_by_salt():
    assert "relay:" in chatmail.output({"relay": {"success": 1}})
