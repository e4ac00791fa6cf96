"""Mailboxes empty themselves: by the clock, and when they fill up."""


def test_the_timers_wait(one_host):
    timers = one_host.run(["systemctl", "list-timers", "--no-legend", "chatmail-*"]).stdout
    assert "chatmail-expire.timer" in timers
    assert "chatmail-fsreport.timer" in timers
