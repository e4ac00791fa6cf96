"""What of a relay runs, and stops when it moves; and what of its mail is in Postfix's queue."""

ACTIVATED = (
    *("filtermail", "filtermail-incoming", "doveauth", "lastlogin", "chatmail-metadata", "chatmail-newemail"),
    *("chatmail-dane-policy", "chatmail-transport", "chatmail-turn"),
)
"""Services that whoever connects to their sockets starts again."""
UNITS = (
    *("chatmail-expire.timer", "chatmail-fsreport.timer", "chatmail-metrics.timer", "acmetool.timer"),
    *("chatmail-backup.timer", "chatmail-backup-check.timer", "chatmail-backup", "chatmail-expire"),
    *("certificate-reload.path", "certificate-reload.timer", "coturn"),
    *("chatmail-status.timer", "chatmail-status", "operator-bot-host.socket", "operator-bot.socket", "operator-bot"),
    *("postfix", "postfix@-", "chatmail-sasl.socket", "chatmail-sasl", "nginx", "dovecot"),
    *("postfix-mta-sts-resolver", "opendkim", "iroh-relay", "chatmail-network-share", "echobot", "mtail"),
    *(f"{service}.{kind}" for kind in ("socket", "service") for service in ACTIVATED),
)
"""All of a relay that runs, as far as it is there, in the order in which it stops."""
QUEUES = ("incoming", "active", "deferred", "hold", "maildrop")
"""Postfix's directories of messages; beside them are notes on these."""
QUEUE_NOTES = ("bounce", "defer", "trace", "flush")
